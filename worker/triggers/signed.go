package triggers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/hmacsign"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

// The headers of a webhook of your own.
const (
	headerTimestamp = hmacsign.Timestamp
	headerDelivery  = hmacsign.Delivery
	headerSignature = hmacsign.Signature
)

// maxWhy is how many characters a reason may have.
const maxWhy = 300

func newSigned(s config.TriggerSource, o Options, shared secret.Value) sender {
	if s.Type == config.GitHubSecretScanning {
		return &github{TriggerSource: s, options: o, secret: shared}
	}
	return &webhook{TriggerSource: s, options: o, secret: shared}
}

// webhook is a sender of your own.
type webhook struct {
	config.TriggerSource
	options Options
	secret  secret.Value
}

func (s *webhook) known(_ context.Context, h http.Header) *refusal {
	if h.Get(headerSignature) == "" {
		return refuse(http.StatusUnauthorized, "there is no "+headerSignature)
	}
	return nil
}

func (s *webhook) signed(h http.Header, body []byte) *refusal {
	if !hmacsign.Valid(h.Get(headerSignature), s.secret, hmacsign.Head(h.Get(headerTimestamp), h.Get(headerDelivery)), body) {
		return refuse(http.StatusUnauthorized, "the signature is not that of this delivery")
	}
	return nil
}

func (s *webhook) delivery(h http.Header) string { return h.Get(headerDelivery) }
func (*webhook) acknowledges() bool              { return false }

// deliveryID has no dot, so that nobody can move text between the parts of what is signed.
var deliveryID = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func (s *webhook) read(h http.Header, body []byte) (asked, *refusal) {
	seconds, err := strconv.ParseInt(h.Get(headerTimestamp), 10, 64)
	if err != nil || len(h.Get(headerTimestamp)) > 12 {
		return asked{}, refuse(http.StatusBadRequest, headerTimestamp+" is not a valid time; expected seconds since 1970")
	}
	if off := s.options.Now().Sub(time.Unix(seconds, 0)).Abs(); off > replayWindow {
		return asked{}, refuse(http.StatusBadRequest, "the delivery is %s off this machine's clock; %s are allowed", off.Round(time.Second), replayWindow)
	}
	if !deliveryID.MatchString(h.Get(headerDelivery)) {
		return asked{}, refuse(http.StatusBadRequest, headerDelivery+" is not a valid id; expected 1 to 128 characters A-Z, a-z, 0-9, _ and -")
	}
	o, no := parseOrder(body)
	if no != nil {
		return asked{}, no
	}
	in := workflows.TriggerInput{Delivery: safeID(h.Get(headerDelivery)), Leaked: o.Leaked, Why: o.Why, Within: s.Keys}
	if in.Why == "" {
		in.Why = "asked by webhook " + s.Name
	}
	if o.Fingerprint != "" {
		in.Fingerprints = []string{o.Fingerprint}
		return asked{in: &in}, nil
	}
	// One answer for both: the sender learns nothing about keys that are not its own.
	if !activities.Within(s.Keys, o.Key) || !slices.ContainsFunc(s.options.Keys, func(k rotation.Key) bool { return k.Name == o.Key }) {
		return asked{}, refuse(http.StatusUnprocessableEntity, "there is no key of that name that this source may trigger")
	}
	in.Keys = []string{o.Key}
	return asked{in: &in}, nil
}

// order is the body of a webhook of your own.
type order struct {
	// One of the two says which key.
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"`
	// Leaked asks for an emergency rotation.
	Leaked bool   `json:"leaked"`
	Why    string `json:"why"`
}

var fingerprint = regexp.MustCompile(`^[0-9a-f]{12}$`)

func parseOrder(body []byte) (order, *refusal) {
	bad := func(format string, args ...any) (order, *refusal) {
		return order{}, refuse(http.StatusBadRequest, format, args...)
	}
	var o order
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return bad(`the body is not what it should be: {"key": "…"} or {"fingerprint": "…"}, with "leaked" and "why" if you like, and nothing else`)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows the JSON object")
	}
	if errors.Is(exact(body, &o), errAmbiguous) {
		return bad("a field appears twice, or its name is written in different cases; which of them counts would depend on who reads it")
	}
	switch {
	case (o.Key == "") == (o.Fingerprint == ""):
		return bad(`expected either "key" or "fingerprint"`)
	case o.Key != "" && !rotation.ValidKeyName(o.Key):
		return bad(`"key" is not a valid name of a key`)
	case o.Fingerprint != "" && !fingerprint.MatchString(o.Fingerprint):
		return bad(`"fingerprint" is not valid; expected the first 12 hex digits of the value's SHA-256`)
	case len([]rune(o.Why)) > maxWhy || !rotation.OneLine(o.Why):
		return bad(`"why" must be one line of at most %d characters that can be seen`, maxWhy)
	case rotation.LooksLikeKey(o.Why):
		return bad(`"why" holds what looks like a key: treat that key as leaked`)
	}
	return o, nil
}
