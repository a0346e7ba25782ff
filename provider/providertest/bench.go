package providertest

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
)

// bench is what one test of the suite works on. Whatever the provider said and printed is kept and searched for
// secrets in the end.
type bench struct {
	*testing.T
	Harness
	caps    provider.Capabilities
	lag     time.Duration
	account string

	attempt int
	printed []string
	secrets []secret.Value
}

// saw keeps results and errors for checkLeaks.
func (b *bench) saw(results ...any) {
	for _, r := range results {
		b.printed = append(b.printed, fmt.Sprintf("%v\n%+v\n%#v\n%s", r, r, r, r))
		if err, ok := r.(error); ok && err != nil {
			f := fault.Of(err)
			b.printed = append(b.printed, fmt.Sprintf("%#v", *f))
		}
	}
}

func (b *bench) keep(values ...secret.Value) {
	for _, v := range values {
		if !v.IsEmpty() {
			b.secrets = append(b.secrets, v)
		}
	}
}

// leakLength is how many characters of a secret in a row are a leak.
const leakLength = 8

// checkLeaks searches everything that was printed for pieces of secrets, plain, in hex and in base64, and for what
// the server said.
func (b *bench) checkLeaks() {
	b.Helper()
	text := strings.Join(b.printed, "\n")
	for _, words := range b.ServerWords {
		if strings.Contains(text, words) {
			b.Errorf("the server's words %q reached a fault or a result", words)
		}
	}
	for _, v := range b.secrets {
		parts := []string{v.Reveal()}
		if b.Sensitive != nil {
			parts = b.Sensitive(v)
		}
		for _, part := range parts {
			if len(part) < leakLength {
				b.Fatalf("a sensitive part of %d characters proves nothing", len(part))
			}
			for _, form := range []string{part, hex.EncodeToString([]byte(part)), base64.StdEncoding.EncodeToString([]byte(part))} {
				if piece := leaked(text, form); piece != "" {
					b.Errorf("%d characters of the secret %s reached a fault or a result", len(piece), v)
					break
				}
			}
		}
	}
}

// leaked returns the first piece of part that is in text.
func leaked(text, part string) string {
	for i := 0; i+leakLength <= len(part); i++ {
		if piece := part[i : i+leakLength]; strings.Contains(text, piece) {
			return piece
		}
	}
	return ""
}

// nextStamp is a stamp that no key has yet.
func (b *bench) nextStamp() string {
	b.attempt++
	return rotation.Stamp{Install: "testin", Key: "conformance", Rotation: "abcdefgh", Attempt: b.attempt}.String()
}

// mint asks for a key once.
func (b *bench) mint(ctx context.Context, stamp string) (provider.Minted, error) {
	m, err := b.Provider.Mint(ctx, b.account, stamp)
	b.saw(m, err)
	b.keep(m.Value)
	return m, err
}

// aKey is a live key of the account: made by the provider, or by a person where it cannot make any.
func (b *bench) aKey() (id string, v secret.Value) {
	b.Helper()
	if b.caps.Mint {
		m, err := b.mint(b.Context(), b.nextStamp())
		b.must("mint a key", err)
		id, v = m.ID, m.Value
	} else {
		id, v = b.ForeignKey(b.T, b.account)
		b.keep(v)
	}
	b.Advance(b.lag)
	return id, v
}

func (b *bench) probe(v secret.Value) provider.Proof {
	b.Helper()
	proof, err := b.Provider.Probe(b.Context(), b.account, v)
	b.saw(proof, err)
	b.must("probe a value", err)
	return proof
}

// list returns the keys by id.
func (b *bench) list() map[string]provider.Key {
	b.Helper()
	keys, err := b.Provider.List(b.Context(), b.account)
	b.saw(keys, err)
	b.must("list keys", err)
	byID := map[string]provider.Key{}
	for _, k := range keys {
		if _, twice := byID[k.ID]; twice || k.ID == "" {
			b.Fatalf("the list has the key id %q twice, or a key without id", k.ID)
		}
		byID[k.ID] = k
	}
	return byID
}

func (b *bench) must(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// calls counts the requests of an operation so far.
func (b *bench) calls(op Operation) int {
	b.Helper()
	r, ok := b.Requests[op]
	if !ok {
		b.Fatalf("the harness does not name the request of %s", op)
	}
	return b.Cloud.Calls(r.Service, r.Method)
}

// operation is one request, as a test sends it.
type operation struct {
	name    Operation
	mutates bool
	send    func(ctx context.Context) error
}

// claimed returns the operations that the provider claims, ready to be sent on a live key.
func (b *bench) claimed() []operation {
	b.Helper()
	id, v := b.aKey()
	ops := []operation{{Probe, false, func(ctx context.Context) error {
		_, err := b.Provider.Probe(ctx, b.account, v)
		return err
	}}}
	if b.caps.List {
		ops = append(ops, operation{List, false, func(ctx context.Context) error {
			_, err := b.Provider.List(ctx, b.account)
			return err
		}})
	}
	if b.caps.Usage {
		ops = append(ops, operation{Usage, false, func(ctx context.Context) error {
			_, err := b.Provider.Usage(ctx, b.account, id)
			return err
		}})
	}
	if b.caps.Mint {
		ops = append(ops, operation{Mint, true, func(ctx context.Context) error {
			_, err := b.mint(ctx, b.nextStamp())
			return err
		}})
	}
	if b.caps.Disable {
		ops = append(ops,
			operation{Disable, true, func(ctx context.Context) error { return b.Provider.Disable(ctx, b.account, id) }},
			operation{Enable, true, func(ctx context.Context) error { return b.Provider.Enable(ctx, b.account, id) }})
	}
	if b.caps.Delete {
		ops = append(ops, operation{Delete, true, func(ctx context.Context) error { return b.Provider.Delete(ctx, b.account, id) }})
	}
	return ops
}
