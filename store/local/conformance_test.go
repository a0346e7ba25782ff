package local_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store/local"
	"github.com/rekeyhq/rekey/store/storetest"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// place is a folder with an identity beside it.
type place struct{ dir, identity string }

func newPlace(t *testing.T) place {
	t.Helper()
	root := t.TempDir()
	return place{dir: filepath.Join(root, "keys"), identity: filepath.Join(root, "private", "identity.txt")}
}

func (p place) options() local.Options {
	return local.Options{Dir: p.dir, IdentityFile: p.identity, CreateIdentity: true, Now: func() time.Time { return noon }}
}

func (p place) open(t *testing.T) *local.Store {
	t.Helper()
	s, err := local.New(p.options())
	must(t, err)
	return s
}

func (p place) file(path string) string   { return filepath.Join(p.dir, path+".age") }
func (p place) ledger(path string) string { return filepath.Join(p.identity+".ledger", path+".json") }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refused checks the code of a fault, and that it says what a person has to do.
func refused(t *testing.T, err error, code string) {
	t.Helper()
	f := fault.Of(err)
	if err == nil || f.Code != code || f.Advice == "" {
		t.Fatalf("got %v, want a fault %s with advice", err, code)
	}
}

func TestTheLocalStore(t *testing.T) {
	p := newPlace(t)
	s := p.open(t)
	var paths atomic.Int64
	storetest.Run(t, storetest.Harness{
		Store: s, Other: p.open(t),
		Path: func(t *testing.T, v secret.Value) string {
			path := fmt.Sprintf("openai-%d", paths.Add(1))
			if !v.IsEmpty() {
				_, err := s.Put(context.Background(), path, v)
				must(t, err)
			}
			return path
		},
		Behind: func(t *testing.T, path string, v secret.Value) {
			_, err := s.Put(context.Background(), path, v)
			must(t, err)
		},
		Settle: func() {},
		Down: func(t *testing.T) func() {
			away := p.dir + ".away"
			must(t, os.Rename(p.dir, away))
			return func() { must(t, os.Rename(away, p.dir)) }
		},
	})
}
