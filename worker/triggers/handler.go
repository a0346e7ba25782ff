package triggers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

const prefix = "/triggers/"

// handler answers deliveries. It does not use http.ServeMux, which would redirect odd paths.
type handler struct {
	Options
	sources map[string]*source
	flood   *rate.Limiter
	bodies  readings

	mu sync.Mutex
	// floodTold is when the log last said that there are too many requests, floodLost how many were lost since.
	floodTold time.Time
	floodLost int
}

// source is a source with its limit.
type source struct {
	sender
	name  string
	limit *rate.Limiter
}

// acquire waits until the source's limit lets the delivery through, but not for long: GitHub sends no delivery twice, so that
// many at once had better wait than be refused.
func (g *source) acquire(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, queueing)
	defer cancel()
	return g.limit.Wait(ctx) == nil
}

// sender knows how one type of source signs and what it says.
type sender interface {
	// known checks what the headers alone prove, before the body is read.
	known(ctx context.Context, h http.Header) *refusal
	// signed checks what needs the body.
	signed(h http.Header, body []byte) *refusal
	// read understands an authenticated delivery.
	read(h http.Header, body []byte) (asked, *refusal)
	// delivery is the id of a delivery as the sender's own log shows it.
	delivery(h http.Header) string
	// acknowledges: the sender repeats whatever is not acknowledged, so what can never succeed must be.
	acknowledges() bool
}

// asked is what a delivery asks for.
type asked struct {
	// in is nil if there is nothing to do; why says why.
	in  *workflows.TriggerInput
	why string
}

// refusal is why a delivery is not taken. Its reason holds nothing of the body.
type refusal struct {
	status int
	reason string
}

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, reason: fmt.Sprintf(format, args...)}
}

// answer is what a sender gets.
type answer struct {
	Status string `json:"status"`
	// Delivery names the workflow that does it: trigger/<source>/<delivery>.
	Delivery string `json:"delivery,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !h.flood.AllowN(h.Now(), 1) {
		h.tooManyRequests(r)
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
		reply(w, http.StatusTooManyRequests, answer{Status: "refused", Reason: "too many requests"})
		return
	}
	defer func() {
		if recover() != nil { // its text may show the request
			h.Log.Error("a delivery caused a panic", "path", printable(r.URL.Path))
			reply(w, http.StatusInternalServerError, answer{Status: "refused", Reason: "a defect of rekey"})
		}
	}()
	g, no := h.source(r)
	if no != nil {
		h.unknown(w, r, nil, no)
		return
	}
	h.serve(w, r, g)
}

// tooManyRequests logs, once in a while, how many requests were not looked at.
func (h *handler) tooManyRequests(r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.floodLost++
	if now := h.Now(); h.floodTold.IsZero() || now.Sub(h.floodTold) >= floodNews {
		h.log(r, nil, slog.LevelWarn, "a delivery is refused", "status", http.StatusTooManyRequests, "reason", "too many requests", "lost", h.floodLost)
		h.floodTold, h.floodLost = now, 0
	}
}

// unknown refuses somebody who has proven nothing, and ends the connection.
func (h *handler) unknown(w http.ResponseWriter, r *http.Request, g *source, no *refusal) {
	w.Header().Set("Connection", "close")
	h.refused(w, r, g, no)
}

// source finds whose delivery it is.
func (h *handler) source(r *http.Request) (*source, *refusal) {
	if h.Config.Host != "" && !strings.EqualFold(r.Host, h.Config.Host) {
		return nil, refuse(http.StatusMisdirectedRequest, "another host was asked for than triggers.host of rekey.yaml")
	}
	name, ok := strings.CutPrefix(r.URL.Path, prefix)
	g := h.sources[name]
	if !ok || g == nil {
		return nil, refuse(http.StatusNotFound, "there is no such source")
	}
	if r.Method != http.MethodPost {
		return nil, refuse(http.StatusMethodNotAllowed, "a delivery is a POST")
	}
	return g, nil
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request, g *source) {
	if no := g.known(r.Context(), r.Header); no != nil {
		h.unknown(w, r, g, no)
		return
	}
	leave := h.bodies.enter(r.Context())
	body, no := readBody(w, r)
	leave()
	defer clear(body) // it may hold a key that leaked
	if no == nil {
		no = g.signed(r.Header, body)
	}
	if no != nil {
		h.unknown(w, r, g, no)
		return
	}
	defer known(r.Context())()
	if !g.acquire(r.Context()) {
		w.Header().Set("Retry-After", "1")
		h.refused(w, r, g, refuse(http.StatusTooManyRequests, "the source sends more than triggers.rate of rekey.yaml"))
		return
	}
	a, no := g.read(r.Header, body)
	switch {
	case no != nil:
		h.refused(w, r, g, no)
	case a.in == nil:
		h.log(r, g, slog.LevelInfo, "a delivery asks for nothing", "reason", a.why)
		reply(w, http.StatusOK, answer{Status: "nothing to do", Reason: a.why})
	default:
		h.start(w, r, g, *a.in)
	}
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, *refusal) {
	// A test's recorder has no connection.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if errors.As(err, new(*http.MaxBytesError)) {
		return body, refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d KiB", maxBody>>10)
	} else if err != nil {
		return body, refuse(http.StatusBadRequest, "the body did not come in whole")
	}
	return body, nil
}

// start hands the delivery to Temporal. The sender gets its answer when Temporal has it, and not before.
func (h *handler) start(w http.ResponseWriter, r *http.Request, g *source, in workflows.TriggerInput) {
	in.Source = g.name
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	taken, err := h.Start(ctx, in)
	if err != nil {
		w.Header().Set("Retry-After", "30")
		h.log(r, g, slog.LevelError, "a delivery could not be given to Temporal", "workflow", workflows.TriggerID(g.name, in.Delivery), "error", err.Error())
		reply(w, http.StatusServiceUnavailable, answer{Status: "not taken", Delivery: in.Delivery, Reason: "Temporal does not answer; send it again"})
		return
	}
	status, text := http.StatusAccepted, "taken"
	if !taken {
		status, text = http.StatusOK, "already taken"
	}
	h.log(r, g, slog.LevelInfo, "a delivery is "+text, "workflow", workflows.TriggerID(g.name, in.Delivery), "leaked", in.Leaked)
	reply(w, status, answer{Status: text, Delivery: in.Delivery})
}

// refused answers the sender, and logs it.
func (h *handler) refused(w http.ResponseWriter, r *http.Request, g *source, no *refusal) {
	status := no.status
	if g != nil && g.acknowledges() && final(status) {
		status = http.StatusOK
	}
	if status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	if status == http.StatusUnauthorized && g.acknowledges() {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	h.log(r, g, slog.LevelWarn, "a delivery is refused", "status", status, "reason", no.reason)
	reply(w, status, answer{Status: "refused", Reason: no.reason})
}

// final reports whether the same delivery would be refused again.
func final(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

func (h *handler) log(r *http.Request, g *source, level slog.Level, what string, attrs ...any) {
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		remote = printable(r.RemoteAddr)
	}
	source, delivery := "", ""
	if g != nil {
		source, delivery = g.name, g.delivery(r.Header)
	}
	h.Log.Log(r.Context(), level, what, append([]any{"source", source, "delivery", safeID(delivery), "remote", remote}, attrs...)...)
}

func reply(w http.ResponseWriter, status int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(a) // a sender that is gone needs no answer
}

var plainID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,47}$`)

// safeID is an id as it may appear in a log and in a workflow's id: odd or long ones are hashed, and those that look like
// a key, which somebody may have sent in the wrong place.
func safeID(id string) string {
	if id == "" || plainID.MatchString(id) && !rotation.LooksLikeKey(id) {
		return id
	}
	return "hash-" + hash([]byte(id))
}

// hash names bytes; 32 digits are enough that nobody makes another text of the same name.
func hash(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// printable cuts a text from outside to what a log line can show.
func printable(text string) string {
	if len(text) > 100 || rotation.LooksLikeKey(text) {
		return "hash-" + hash([]byte(text))
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
}

// replayWindow is how far a sender's clock, and the way of a delivery, may be off.
const replayWindow = 5 * time.Minute
