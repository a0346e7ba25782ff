// Package signature is how rekey and those that it talks to over webhooks sign: HMAC-SHA256 of time, delivery id and
// body, with dots between. docs/triggers.md and docs/notifications.md describe it.
package hmacsign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/rekeyhq/rekey/secret"
)

// The headers of a signed webhook.
const (
	// Timestamp is when it was sent, in seconds since 1970.
	Timestamp = "X-Rekey-Timestamp"
	// Delivery is the same for every try of one delivery. It has no dot, so that nobody can move text between the parts
	// of what is signed.
	Delivery = "X-Rekey-Delivery"
	// Signature is sha256= and the HMAC in hex.
	Signature = "X-Rekey-Signature"
)

// Head is what is signed before the body.
func Head(timestamp, delivery string) []byte { return []byte(timestamp + "." + delivery + ".") }

// Of is the signature of the parts one after the other.
func Of(shared secret.Value, parts ...[]byte) string {
	return "sha256=" + hex.EncodeToString(sum(shared, parts))
}

// Valid reports whether header is the signature of the parts. It takes the same time wherever the two differ.
func Valid(header string, shared secret.Value, parts ...[]byte) bool {
	text, ok := strings.CutPrefix(header, "sha256=")
	given, err := hex.DecodeString(text)
	return ok && err == nil && hmac.Equal(given, sum(shared, parts))
}

func sum(shared secret.Value, parts [][]byte) []byte {
	mac := hmac.New(sha256.New, []byte(shared.Reveal()))
	for _, p := range parts {
		_, _ = mac.Write(p) // never fails
	}
	return mac.Sum(nil)
}
