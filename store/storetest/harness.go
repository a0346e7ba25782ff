// Package storetest is the conformance suite of stores: what the engine relies on, checked against every adapter.
package storetest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// Harness returns the suite a store and what only its maker can do with the place behind it. A nil function leaves
// out what depends on it, visibly (as a skipped test).
type Harness struct {
	// Store is the one under test; Other is a second one on the same place, as another process has it.
	Store, Other store.Store
	// Path makes a path that no test has used, ready for rekey, with v as what applications read; v may be empty.
	Path func(t *testing.T, v secret.Value) string
	// Behind makes v what applications read, without rekey.
	Behind func(t *testing.T, path string, v secret.Value)
	// Settle moves the clock on until applications see the last change.
	Settle func()
	// Down cuts the store off until up is called.
	Down func(t *testing.T) (up func())
	// LoseAdd lets the next Add on path happen and loses its answer.
	LoseAdd func(t *testing.T, path string)
	// LosePromote are the points at which the next Promote on path can lose an answer, by their names.
	LosePromote map[string]func(t *testing.T, path string)
}

// suite is a Harness with a memory of what must not leak.
type suite struct {
	Harness
	mu      sync.Mutex
	secrets []secret.Value
	said    []string
}

// at is when the suite's records are dated: any fixed time does.
var at = time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)

// fresh makes a value that no other test has.
func (s *suite) fresh(t *testing.T) secret.Value {
	t.Helper()
	raw := make([]byte, 24)
	if _, err := rand.Read(raw); err != nil {
		t.Fatal(err)
	}
	v := secret.FromString("sk-test+" + base64.StdEncoding.EncodeToString(raw))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, v)
	return v
}

// heard keeps what a store said, for the leak check at the end.
func (s *suite) heard(said any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, fmt.Sprintf("%v | %+v | %#v", said, said, said))
	if text, err := json.Marshal(said); err == nil {
		s.said = append(s.said, string(text))
	}
}

// checkLeaks looks for every value in everything that was said, in the encodings that bytes tend to turn into.
func (s *suite) checkLeaks(t *testing.T) {
	t.Helper()
	if len(s.said) == 0 || len(s.secrets) == 0 {
		t.Fatal("the suite heard nothing, so it cannot report whether anything leaked")
	}
	all := strings.Join(s.said, "\n")
	for _, v := range s.secrets {
		plain := v.Reveal()
		for name, form := range map[string]string{
			"plain": plain, "base64": base64.StdEncoding.EncodeToString([]byte(plain)), "base64url": base64.RawURLEncoding.EncodeToString([]byte(plain)),
			"hex": hex.EncodeToString([]byte(plain)), "escaped": url.QueryEscape(plain), "tail": plain[len(plain)-16:],
		} {
			if strings.Contains(all, form) {
				t.Errorf("a value appears (%s) in a fault or a record", name)
			}
		}
	}
}

func (s *suite) load(t *testing.T, path string) store.Snapshot {
	t.Helper()
	snap, err := s.Store.Load(context.Background(), path)
	s.must(t, err)
	s.heard(snap)
	return snap
}

func (s *suite) save(t *testing.T, path string, snap store.Snapshot) store.Snapshot {
	t.Helper()
	saved, err := s.Store.Save(context.Background(), path, snap)
	s.must(t, err)
	s.heard(saved)
	return saved
}

// claim does what a rotation does before it mints: it saves a claim.
func (s *suite) claim(t *testing.T, path string) store.Snapshot {
	t.Helper()
	snap := s.load(t, path)
	snap.Install = "abc123"
	snap.Claim = &store.Claim{Install: "abc123", Rotation: "aaaaaaaa", Attempt: 1, At: at}
	return s.save(t, path, snap)
}

// stage adds v and saves it as pending.
func (s *suite) stage(t *testing.T, path string, snap store.Snapshot, v secret.Value) (store.Snapshot, store.Version) {
	t.Helper()
	number, err := s.Store.Add(context.Background(), path, v)
	s.must(t, err)
	version := store.Version{
		Number: number, KeyID: "key-" + v.Fingerprint(), Stamp: "rekey-abc123-test-aaaaaaaa-01", Rotation: "aaaaaaaa",
		Fingerprint: v.Fingerprint(), StagedAt: at,
	}
	snap.Pending = &version
	return s.save(t, path, snap), version
}

func (s *suite) promote(t *testing.T, path string, snap store.Snapshot, v store.Version) store.Snapshot {
	t.Helper()
	v.CurrentSince = at.Add(time.Minute)
	after, err := s.Store.Promote(context.Background(), path, snap, v)
	s.must(t, err)
	s.heard(after)
	return after
}

// rotated is a path where old was in place and replaced by new.
func (s *suite) rotated(t *testing.T) (path string, old, current secret.Value, snap store.Snapshot) {
	t.Helper()
	old, current = s.fresh(t), s.fresh(t)
	path = s.Path(t, old)
	snap, v := s.stage(t, path, s.claim(t, path), current)
	snap = s.promote(t, path, snap, v)
	s.Settle()
	return path, old, current, snap
}

func (s *suite) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		s.heard(err)
		t.Fatal(err)
	}
}

// published checks what applications read; an empty want means nothing.
func (s *suite) published(t *testing.T, path string, want secret.Value) {
	t.Helper()
	got, err := s.Store.Published(context.Background(), path)
	if err != nil {
		s.heard(err)
	}
	switch {
	case want.IsEmpty() && fault.Is(err, fault.NotFound):
	case want.IsEmpty():
		t.Fatalf("applications read %v (%v), want nothing", got, err)
	case err != nil:
		t.Fatalf("applications read nothing: %v", err)
	case !got.Equal(want):
		t.Fatalf("applications read %v, want %v", got, want)
	}
}

// refused checks the class of a fault, and that the fault says what was tried.
func (s *suite) refused(t *testing.T, err error, class fault.Class) {
	t.Helper()
	if err == nil {
		t.Fatalf("succeeded, want %s", class)
	}
	s.heard(err)
	if !fault.Is(err, class) {
		t.Fatalf("got %v, want %s", err, class)
	}
	if fault.Of(err).Doing == "" {
		t.Fatalf("the fault %v does not say what was tried", err)
	}
}

func (s *suite) conflict(t *testing.T, err error) {
	t.Helper()
	if !store.IsConflict(err) {
		t.Fatalf("got %v, want a conflict", err)
	}
	s.heard(err)
}

// holding counts the versions that hold v, and reports whether any could not be read.
func (s *suite) holding(t *testing.T, path string, v secret.Value) int {
	t.Helper()
	numbers, err := s.Store.Versions(context.Background(), path)
	s.must(t, err)
	n := 0
	for _, number := range numbers {
		got, err := s.Store.Read(context.Background(), path, number)
		s.must(t, err)
		if got.Equal(v) {
			n++
		}
	}
	return n
}
