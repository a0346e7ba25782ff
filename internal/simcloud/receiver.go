package simcloud

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The services of a Receiver in the journal.
const (
	SlackService   = "slack"
	WebhookService = "webhook"
)

// Message is what a Receiver took.
type Message struct {
	// Service is SlackService or WebhookService.
	Service string
	At      time.Time
	Text    string
	// ID and Fields are those of a webhook.
	ID     string
	Fields map[string]any
	// Again: a message with this id came before. The receiver dropped it.
	Again bool
}

// Receiver takes messages as Slack's incoming webhooks do, and signed webhooks as somebody writes them who reads
// docs/notifications.md. It is strict.
type Receiver struct {
	// SlackURL and WebhookURL are where it takes them. The first is a secret.
	SlackURL, WebhookURL string

	cloud  *Cloud
	secret []byte
	stop   func()

	mu       sync.Mutex
	messages []Message
}

// SlackPath is where the simulated Slack has its one webhook.
const SlackPath = "/services/T0REKEY00/B0REKEY00/XrekeyXrekeyXrekeyXrekey"

const hookPath = "/hooks/rekey"

// StartReceiver starts a receiver whose webhooks are signed with secret.
func (c *Cloud) StartReceiver(secret string) (*Receiver, error) {
	r := &Receiver{cloud: c, secret: []byte(secret)}
	route := func(q *http.Request) (string, string) { return "post", q.URL.Path }
	mux := http.NewServeMux()
	mux.HandleFunc("/services/", r.slack)
	slack, stopSlack, err := c.ServeHTTP(SlackService, route, slackError, mux)
	if err != nil {
		return nil, err
	}
	hooks := http.NewServeMux()
	hooks.HandleFunc(hookPath, r.webhook)
	webhook, stopWebhook, err := c.ServeHTTP(WebhookService, route, slackError, hooks)
	if err != nil {
		stopSlack()
		return nil, err
	}
	r.SlackURL, r.WebhookURL = slack+SlackPath, webhook+hookPath
	r.stop = func() { stopSlack(); stopWebhook() }
	return r, nil
}

// Stop ends it.
func (r *Receiver) Stop() { r.stop() }

// Messages are all that it took, oldest first.
func (r *Receiver) Messages() []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

func (r *Receiver) take(m Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.At = r.cloud.Now()
	m.Again = m.ID != "" && slices.ContainsFunc(r.messages, func(o Message) bool { return o.ID == m.ID })
	r.messages = append(r.messages, m)
}

// slackError answers as Slack does: plain text (Slack's docs, incoming webhooks, handling errors).
func slackError(w http.ResponseWriter, code int) {
	text := map[int]string{
		http.StatusBadRequest: "invalid_payload", http.StatusForbidden: "action_prohibited", http.StatusNotFound: "no_service",
		http.StatusGone: "channel_is_archived", http.StatusInternalServerError: "rollup_error",
	}[code]
	if text == "" {
		text = http.StatusText(code)
	}
	http.Error(w, text, code)
}

func (r *Receiver) slack(w http.ResponseWriter, q *http.Request) {
	var m struct {
		Text   string `json:"text"`
		Blocks []any  `json:"blocks"`
	}
	switch err := strict(q.Body, &m); {
	case q.URL.Path != SlackPath:
		slackError(w, http.StatusNotFound)
	case q.Method != http.MethodPost, err != nil, !strings.HasPrefix(q.Header.Get("Content-Type"), "application/json"):
		slackError(w, http.StatusBadRequest)
	case m.Text == "":
		http.Error(w, "no_text", http.StatusBadRequest)
	case len(m.Text) > 40000 || entity.MatchString(m.Text):
		slackError(w, http.StatusBadRequest)
	default:
		r.take(Message{Service: SlackService, Text: m.Text})
		_, _ = io.WriteString(w, "ok")
	}
}

// entity is a control character that should have been escaped (Slack's docs, formatting text). The real one would read
// a mention or a link into it.
var entity = regexp.MustCompile(`[<>]|&(?:[^agl]|$)`)

var delivery = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// noticeFields are the fields of a webhook's body, and whether each must be there.
var noticeFields = map[string]bool{
	"id": true, "event": true, "at": true, "key": true, "provider": true, "rotation": true, "reason": true, "phase": true, "message": true, "text": true,
	"tier": false, "deadline": false, "otherwise": false, "command": false, "note": false, "notified": false, "link": false,
}

func (r *Receiver) webhook(w http.ResponseWriter, q *http.Request) {
	refuse := func(code int, why string) { http.Error(w, why, code) }
	body, err := io.ReadAll(q.Body)
	timestamp, id := q.Header.Get("X-Rekey-Timestamp"), q.Header.Get("X-Rekey-Delivery")
	mac := hmac.New(sha256.New, r.secret)
	mac.Write([]byte(timestamp + "." + id + "." + string(body)))
	if err != nil || !hmac.Equal([]byte(q.Header.Get("X-Rekey-Signature")), []byte("sha256="+hex.EncodeToString(mac.Sum(nil)))) {
		refuse(http.StatusUnauthorized, "signature")
		return
	}
	// By the real clock: signatures are dated by it, also where a test's clock is ahead.
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		refuse(http.StatusBadRequest, "timestamp")
		return
	}
	fields := map[string]any{}
	if err := strict(bytes.NewReader(body), &fields); err != nil || q.Method != http.MethodPost || !delivery.MatchString(id) || fields["id"] != id || len(body) > 8<<10 {
		refuse(http.StatusBadRequest, "payload")
		return
	}
	for name, needed := range noticeFields {
		if needed && fields[name] == nil {
			refuse(http.StatusBadRequest, "missing "+name)
			return
		}
	}
	for name := range maps.Keys(fields) {
		if _, known := noticeFields[name]; !known {
			refuse(http.StatusBadRequest, "unknown "+name)
			return
		}
	}
	text, _ := fields["text"].(string)
	if text == "" || len(text) >= 1024 {
		refuse(http.StatusBadRequest, "text")
		return
	}
	r.take(Message{Service: WebhookService, ID: id, Text: text, Fields: fields})
	w.WriteHeader(http.StatusAccepted)
}

// strict reads one JSON value and nothing after it.
func strict(from io.Reader, into any) error {
	d := json.NewDecoder(from)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows")
	}
	return nil
}
