package triggers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"cloud.google.com/go/auth/credentials/idtoken"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/workflows"
)

// push is a Pub/Sub push subscription to the topic of Secret Manager's notifications.
type push struct {
	config.TriggerSource
	options   Options
	validator *idtoken.Validator
}

func newPush(s config.TriggerSource, o Options) sender {
	client := &http.Client{
		Timeout: patience, Transport: &recordingTransport{o.Transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	// It fails for no options that are given here.
	v, _ := idtoken.NewValidator(&idtoken.ValidatorOptions{Client: client, Logger: slog.New(slog.DiscardHandler)})
	return &push{TriggerSource: s, options: o, validator: v}
}

// recordingTransport notes that Google's certificates could not be had, which the validator's errors do not distinguish.
type recordingTransport struct{ http.RoundTripper }

type contextKey struct{}

// RoundTrip implements http.RoundTripper.
func (t *recordingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	next := t.RoundTripper
	if next == nil {
		next = http.DefaultTransport
	}
	answer, err := next.RoundTrip(r)
	if failed, ok := r.Context().Value(contextKey{}).(*atomic.Bool); ok && (err != nil || answer.StatusCode != http.StatusOK) {
		failed.Store(true)
	}
	return answer, err
}

func (s *push) known(ctx context.Context, h http.Header) *refusal {
	token, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return refuse(http.StatusUnauthorized, "there is no token; give the subscription --push-auth-service-account")
	}
	if err := plausible(token); err != nil {
		return refuse(http.StatusUnauthorized, "the token is not valid: %s", err)
	}
	var failed atomic.Bool
	p, err := s.validator.Validate(context.WithValue(ctx, contextKey{}, &failed), token, s.Audience)
	switch {
	case err != nil && failed.Load():
		return refuse(http.StatusServiceUnavailable, "Google's certificates could not be had; send it again")
	case err != nil:
		return refuse(http.StatusUnauthorized, "the token is not Google's, has expired, or is for another audience")
	}
	email, _ := p.Claims["email"].(string)
	verified, _ := p.Claims["email_verified"].(bool)
	switch {
	case p.Issuer != "https://accounts.google.com" && p.Issuer != "accounts.google.com":
		return refuse(http.StatusUnauthorized, "the token is of another issuer")
	case email != s.ServiceAccount || !verified:
		return refuse(http.StatusUnauthorized, "the token is of another service account")
	}
	return nil
}

// plausible keeps from the validator what it is not made for: it takes other algorithms than Pub/Sub signs with, and
// trips over parts that are no JSON object.
func plausible(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return errors.New("a token has three parts")
	}
	for i, part := range parts[:2] {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			return errors.New("a part is not base64")
		}
		var object map[string]any
		if err := json.Unmarshal(text, &object); err != nil || object == nil {
			return errors.New("a part is no JSON object")
		}
		if i == 0 && object["alg"] != "RS256" {
			return errors.New("it is not signed with RS256")
		}
	}
	return nil
}

func (*push) signed(http.Header, []byte) *refusal { return nil }
func (*push) delivery(http.Header) string         { return "" }
func (*push) acknowledges() bool                  { return true }

func (s *push) read(_ http.Header, body []byte) (asked, *refusal) {
	m, no := parsePush(body)
	if no != nil {
		return asked{}, no
	}
	if m.Attributes.EventType != "SECRET_ROTATE" {
		return asked{why: "only SECRET_ROTATE asks for a rotation"}, nil
	}
	k, ok := s.KeyOfSecret(s.options.Keys, m.Attributes.SecretID)
	if !ok || !activities.Within(s.Keys, k.Name) {
		return asked{}, refuse(http.StatusUnprocessableEntity, "no key that this source may trigger is in the secret %s", printable(m.Attributes.SecretID))
	}
	return asked{in: &workflows.TriggerInput{
		Delivery: safeID(m.ID), Keys: []string{k.Name}, Within: slices.Clone(s.Keys), Why: "Secret Manager: rotation time of " + m.Attributes.SecretID,
	}}, nil
}

// message is what rekey reads of a wrapped Pub/Sub message.
type message struct {
	ID         string `json:"messageId"`
	Attributes struct {
		EventType string `json:"eventType"`
		SecretID  string `json:"secretId"`
	} `json:"attributes"`
}

func parsePush(body []byte) (message, *refusal) {
	var envelope struct {
		Message message `json:"message"`
	}
	if err := exact(body, &envelope); err != nil {
		return message{}, refuse(http.StatusBadRequest, "the body is not the JSON of a wrapped Pub/Sub message")
	}
	m := envelope.Message
	if m.ID == "" || m.Attributes.EventType == "" {
		return message{}, refuse(http.StatusBadRequest, "the body is not a notification of Secret Manager: messageId or eventType is missing; is the subscription set to unwrap?")
	}
	return m, nil
}
