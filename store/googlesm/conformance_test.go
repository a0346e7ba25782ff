package googlesm_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store/googlesm"
	"github.com/rekeyhq/rekey/store/storetest"
)

const project = "acme-prod"

const aliasLag = 20 * time.Minute

// place is a simulated Secret Manager with a store on it.
type place struct {
	clock *simcloud.Clock
	cloud *simcloud.Cloud
	sm    *simcloud.SecretManager
	store *googlesm.Store
	mode  googlesm.Readers
	paths atomic.Int64
}

func newPlace(t *testing.T, mode googlesm.Readers, opts simcloud.SecretManagerOptions) *place {
	t.Helper()
	p := &place{clock: simcloud.NewClock(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)), mode: mode}
	p.cloud = simcloud.New(p.clock.Now)
	opts.Project = project
	if mode == googlesm.ReadLatest {
		opts.Readers = map[string]string{"*": simcloud.ReadLatest}
	}
	sm, err := p.cloud.StartSecretManager(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sm.Stop)
	p.sm = sm
	p.store = p.open(t)
	return p
}

func (p *place) open(t *testing.T) *googlesm.Store {
	t.Helper()
	s, err := googlesm.New(context.Background(), googlesm.Options{Project: project, Endpoint: p.sm.Endpoint, Readers: p.mode, RequestTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// path makes a secret that is ready for rekey.
func (p *place) path(t *testing.T, v secret.Value) string {
	t.Helper()
	path := fmt.Sprintf("openai-%d", p.paths.Add(1))
	must(t, p.sm.CreateSecret(path, v))
	if p.mode == googlesm.ReadLatest {
		must(t, p.sm.CreateSecret(path+"-rekey-pending", secret.Value{}))
	} else if !v.IsEmpty() {
		must(t, p.sm.SetAlias(path, "current", 1))
	}
	p.settle()
	return path
}

func (p *place) settle() { p.clock.Advance(aliasLag) }

func (p *place) behind(t *testing.T, path string, v secret.Value) {
	t.Helper()
	number, err := p.sm.AddVersion(path, v)
	must(t, err)
	if p.mode == googlesm.ReadAlias {
		must(t, p.sm.SetAlias(path, "current", number))
	}
}

func (p *place) inject(kind simcloud.FaultKind, method string, skip int) func(*testing.T, string) {
	return func(_ *testing.T, path string) {
		p.cloud.Inject(simcloud.Fault{Service: simcloud.SecretManagerService, Method: method, Target: "/" + path, Skip: skip, Times: 1, Kind: kind})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (p *place) harness(t *testing.T) storetest.Harness {
	h := storetest.Harness{
		Store: p.store, Other: p.open(t), Path: p.path, Behind: p.behind, Settle: p.settle,
		Down: func(*testing.T) func() {
			return p.cloud.Inject(simcloud.Fault{Service: simcloud.SecretManagerService, Kind: simcloud.DropBefore})
		},
		LoseAdd: p.inject(simcloud.LoseReply, "AddSecretVersion", 0),
		LosePromote: map[string]func(*testing.T, string){
			"the record is written, its answer lost": p.inject(simcloud.LoseReply, "UpdateSecret", 0),
			"the record is not written":              p.inject(simcloud.DropBefore, "UpdateSecret", 0),
		},
	}
	if p.mode == googlesm.ReadLatest {
		h.LosePromote = map[string]func(*testing.T, string){
			"the note is written, its answer lost":   p.inject(simcloud.LoseReply, "UpdateSecret", 0),
			"the note is not written":                p.inject(simcloud.DropBefore, "UpdateSecret", 0),
			"the value is added, its answer lost":    p.inject(simcloud.LoseReply, "AddSecretVersion", 0),
			"the value is not added":                 p.inject(simcloud.DropBefore, "AddSecretVersion", 0),
			"the record is written, its answer lost": p.inject(simcloud.LoseReply, "UpdateSecret", 1),
			"the value is added, the record is not":  p.inject(simcloud.DropBefore, "UpdateSecret", 1),
		}
	}
	return h
}

func TestReadersOfTheAlias(t *testing.T) {
	p := newPlace(t, googlesm.ReadAlias, simcloud.SecretManagerOptions{})
	p.cloud.SetTiming(simcloud.Timing{AliasLag: aliasLag})
	storetest.Run(t, p.harness(t))
}

func TestReadersOfLatest(t *testing.T) {
	p := newPlace(t, googlesm.ReadLatest, simcloud.SecretManagerOptions{})
	p.cloud.SetTiming(simcloud.Timing{AliasLag: aliasLag})
	storetest.Run(t, p.harness(t))
}
