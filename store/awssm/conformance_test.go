package awssm_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store/awssm"
	"github.com/rekeyhq/rekey/store/storetest"
)

// place is a simulated Secrets Manager with a store on it.
type place struct {
	clock *simcloud.Clock
	cloud *simcloud.Cloud
	sm    *simcloud.AWSSecrets
	store *awssm.Store
	paths atomic.Int64
}

func newPlace(t *testing.T, opts simcloud.AWSSecretsOptions) *place {
	t.Helper()
	p := &place{clock: simcloud.NewClock(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))}
	p.cloud = simcloud.New(p.clock.Now)
	sm, err := p.cloud.StartAWSSecrets(opts)
	must(t, err)
	t.Cleanup(sm.Stop)
	p.sm = sm
	p.store = p.open(t)
	return p
}

func (p *place) open(t *testing.T) *awssm.Store {
	t.Helper()
	s, err := awssm.New(awssm.Options{Region: p.sm.Region, Endpoint: p.sm.URL, RequestTimeout: 10 * time.Second})
	must(t, err)
	return s
}

// path makes a secret that is ready for rekey.
func (p *place) path(t *testing.T, v secret.Value) string {
	t.Helper()
	path := fmt.Sprintf("prod/openai-%d", p.paths.Add(1))
	_, err := p.sm.CreateSecret(path, v)
	must(t, err)
	_, err = p.sm.CreateSecret("rekey/"+path, secret.Value{})
	must(t, err)
	return path
}

func (p *place) behind(t *testing.T, path string, v secret.Value) {
	t.Helper()
	_, err := p.sm.PutValue(path, v)
	must(t, err)
}

// inject makes one request about the secret itself, or about the one that holds its record, go wrong.
func (p *place) inject(kind simcloud.FaultKind, method, prefix string, skip int) func(*testing.T, string) {
	return func(_ *testing.T, path string) {
		p.cloud.Inject(simcloud.Fault{Service: simcloud.AWSSecretsService, Method: method, Target: ":" + prefix + path + "-", Skip: skip, Times: 1, Kind: kind})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const put, move = "PutSecretValue", "UpdateSecretVersionStage"

func TestTheStoreDoesWhatTheEngineReliesOn(t *testing.T) {
	p := newPlace(t, simcloud.AWSSecretsOptions{})
	storetest.Run(t, storetest.Harness{
		Store: p.store, Other: p.open(t), Path: p.path, Behind: p.behind, Settle: func() { p.clock.Advance(time.Minute) },
		Down: func(*testing.T) func() {
			return p.cloud.Inject(simcloud.Fault{Service: simcloud.AWSSecretsService, Kind: simcloud.DropBefore})
		},
		LoseAdd: p.inject(simcloud.LoseReply, put, "", 0),
		LosePromote: map[string]func(*testing.T, string){
			"the note is written, its answer lost":     p.inject(simcloud.LoseReply, put, "rekey/", 0),
			"the note is not written":                  p.inject(simcloud.DropBefore, put, "rekey/", 0),
			"the note counts, the answer to that lost": p.inject(simcloud.LoseReply, move, "rekey/", 0),
			"the note does not count":                  p.inject(simcloud.DropBefore, move, "rekey/", 0),
			"AWSCURRENT has moved, the answer lost":    p.inject(simcloud.LoseReply, move, "", 1),
			"AWSCURRENT has not moved":                 p.inject(simcloud.DropBefore, move, "", 1),
		},
	})
}
