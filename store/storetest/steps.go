package storetest

import (
	"context"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// Claimed saves a first record of a path.
func Claimed(t *testing.T, s store.Store, path string) store.Snapshot {
	t.Helper()
	snap, err := s.Load(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	snap.Install = "abc123"
	if snap, err = s.Save(context.Background(), path, snap); err != nil {
		t.Fatal(err)
	}
	return snap
}

// Staged claims the path and stages v as pending.
func Staged(t *testing.T, s store.Store, path string, v secret.Value) (store.Snapshot, store.Version) {
	t.Helper()
	snap := Claimed(t, s, path)
	number, err := s.Add(context.Background(), path, v)
	if err != nil {
		t.Fatal(err)
	}
	version := store.Version{Number: number, Fingerprint: v.Fingerprint(), KeyID: "k"}
	snap.Pending = &version
	if snap, err = s.Save(context.Background(), path, snap); err != nil {
		t.Fatal(err)
	}
	return snap, version
}

// Refused checks the class of a fault, and that its text says certain words.
func Refused(t *testing.T, err error, class fault.Class, words ...string) {
	t.Helper()
	if !fault.Is(err, class) {
		t.Fatalf("got %v, want %s", err, class)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %q", err, w)
		}
	}
}
