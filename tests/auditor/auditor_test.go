package auditor

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/store/local"
	"github.com/rekeyhq/rekey/worker/engine"
)

var (
	oldSecret = secret.FromString("sk-old-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH")
	newSecret = secret.FromString("sk-new-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH")
)

// place is a local store with a key in it, an auditor of that key, and a provider that refuses what it is told to.
type place struct {
	*testing.T
	*Auditor
	now     time.Time
	acts    *engine.Setup
	refused map[string]bool
	silent  bool
}

// nobody is a provider that is asked nothing.
type nobody struct{ provider.Unsupported }

func (nobody) Capabilities() provider.Capabilities { return provider.Capabilities{} }
func (nobody) Parse(v secret.Value) (provider.Parsed, error) {
	return provider.Parsed{Value: v, KeyID: "k"}, nil
}
func (nobody) Console(string) string { return "" }
func (nobody) Probe(context.Context, string, secret.Value) (provider.Proof, error) {
	return provider.Proof{Accepted: true}, nil
}

func newPlace(t *testing.T) *place {
	dir := t.TempDir()
	s, err := local.New(local.Options{Name: "one", Dir: filepath.Join(dir, "secrets"), IdentityFile: filepath.Join(dir, "identity.txt"), CreateIdentity: true})
	if err != nil {
		t.Fatal(err)
	}
	p := &place{T: t, now: time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC), refused: map[string]bool{}}
	p.acts = &engine.Setup{Environment: &activities.Environment{
		Install: install, Stores: map[string]store.Store{"one": s}, Providers: map[string]provider.Provider{"nobody": nobody{}},
	}}
	key := rotation.Key{Name: "prod", Provider: "nobody", Stores: []rotation.Location{first}, Policy: rotation.Preset(rotation.Production)}
	p.Auditor = New(key, func() time.Time { return p.now }, &Clients{
		Stores: map[string]store.Store{"one": s},
		Use: func(_ context.Context, v secret.Value) (bool, error) {
			if p.silent {
				return false, errors.New("EOF")
			}
			return !p.refused[v.Fingerprint()], nil
		},
	})
	p.publish(s, oldSecret)
	p.Wrap(p.acts)
	return p
}

// publish makes a value current.
func (p *place) publish(s store.Store, v secret.Value) {
	p.Helper()
	number, err := s.Add(p.Context(), first.Path, v)
	if err != nil {
		p.Fatal(err)
	}
	snap, err := s.Load(p.Context(), first.Path)
	if err != nil {
		p.Fatal(err)
	}
	if _, err := s.Promote(p.Context(), first.Path, snap, store.Version{Number: number, Fingerprint: v.Fingerprint()}); err != nil {
		p.Fatal(err)
	}
}

// uses are the findings about applications' requests.
func (p *place) uses() string {
	j := &judge{Case: Case{Key: p.key, Reason: p.reason}}
	for _, op := range p.history.all() {
		if op.Kind == Use {
			j.used(op)
		}
	}
	return strings.Join(j.found, "\n")
}

func TestWhatRekeyAsksIsInTheHistoryAndNoValueIs(t *testing.T) {
	p := newPlace(t)
	watched := p.acts.Stores["one"]
	p.publish(watched, newSecret)
	if _, err := watched.Read(t.Context(), "p", "99"); err == nil {
		t.Fatal("version 99 is there")
	}
	snap, err := watched.Load(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	stale := snap
	if _, err := watched.Save(t.Context(), "p", snap); err != nil {
		t.Fatal(err)
	}
	if _, err := watched.Save(t.Context(), "p", stale); !store.IsConflict(err) {
		t.Fatalf("got %v, want a conflict", err)
	}
	proof, err := p.acts.Providers["nobody"].Probe(t.Context(), "acme", newSecret)
	if err != nil || !proof.Accepted {
		t.Fatal(proof, err)
	}
	if v, err := watched.Published(t.Context(), "p"); err != nil || !v.Equal(newSecret) {
		t.Fatal(v, err)
	}
	if err := watched.Destroy(t.Context(), "p", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := watched.(store.Dated).AddedAt(t.Context(), "p", snap.Current.Number); err != nil {
		t.Fatal(err)
	}
	n := p.acts.Providers["nobody"]
	if _, err := n.Parse(newSecret); err != nil {
		t.Fatal(err)
	}
	_, minted := n.Mint(t.Context(), "acme", stampOf(1))
	_, listed := n.List(t.Context(), "acme")
	for _, err := range []error{minted, listed, n.Disable(t.Context(), "acme", "k"), n.Enable(t.Context(), "acme", "k"), n.Delete(t.Context(), "acme", "k")} {
		if !fault.Is(err, fault.Rejected) {
			t.Errorf("got %v from somebody who does nothing", err)
		}
	}
	var got []string
	for _, op := range p.history.all() {
		if op.By == rekey {
			got = append(got, string(op.Kind)+" "+string(op.Outcome))
		}
		if text, err := json.Marshal(op); err != nil || strings.Contains(string(text), "sk-") {
			t.Errorf("%s, %v", text, err)
		}
	}
	if diff := cmp.Diff([]string{
		"add ok", "load ok", "promote ok", "read refused", "load ok", "save ok", "save conflict", "probe ok", "published ok", "destroy ok", "identify ok",
		"mint refused", "list refused", "disable refused", "enable refused", "delete refused",
	}, got); diff != "" {
		t.Error(diff)
	}
}

func TestOnlyAnAnswerThatSaysSoIsARefusal(t *testing.T) {
	unsettled := fault.New(fault.Unavailable, "", "save")
	unsettled.Unsettled = true
	for sentence, tc := range map[string]struct {
		kind Kind
		err  error
		want Outcome
	}{
		"no failure":                           {Save, nil, OK},
		"somebody was faster":                  {Save, store.ErrConflict("p"), Conflict},
		"a settled refusal":                    {Save, fault.New(fault.Rejected, "", "save"), Refused},
		"an answer that was lost":              {Save, unsettled, Unknown},
		"a failure that nobody has classified": {Delete, context.DeadlineExceeded, Unknown},
		"a look that failed":                   {Load, context.DeadlineExceeded, Refused},
	} {
		t.Run(sentence, func(t *testing.T) {
			if got := outcome(tc.kind, tc.err); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

func TestWhileBothKeysWorkNoApplicationFails(t *testing.T) {
	p := newPlace(t)
	p.Step(t.Context())
	p.publish(p.acts.Stores["one"], newSecret)
	p.now = p.now.Add(time.Duration(p.key.Policy.Grace))
	p.refused[oldSecret.Fingerprint()] = true
	p.Step(t.Context())
	if found := p.uses(); found != "" {
		t.Error(found)
	}
}

func TestAnApplicationThatKeepsACopyFailsWhenGraceIsCutShort(t *testing.T) {
	p := newPlace(t)
	p.Step(t.Context())
	p.publish(p.acts.Stores["one"], newSecret)
	p.now = p.now.Add(time.Duration(p.key.Policy.Grace) / 2)
	p.refused[oldSecret.Fingerprint()] = true
	p.Step(t.Context())
	if found := p.uses(); !strings.Contains(found, "I2: refused, although it was read 24h0m0s ago") {
		t.Errorf("got %q", found)
	}
}

func TestAProcessThatWasStartedJustBeforeThePublishHasTheWholeGrace(t *testing.T) {
	p := newPlace(t)
	p.Step(t.Context())
	grace := time.Duration(p.key.Policy.Grace)
	// The application that keeps a copy reads again before grace ends; this process does not.
	p.now = p.now.Add(grace / 2)
	p.Step(t.Context())
	p.publish(p.acts.Stores["one"], newSecret)
	p.now = p.now.Add(grace * 3 / 4)
	p.refused[oldSecret.Fingerprint()] = true
	p.Step(t.Context())
	if found := p.uses(); !strings.Contains(found, "a process that was started lately") {
		t.Errorf("got %q", found)
	}
}

func TestAnApplicationThatReadsAfreshFailsWhereTheCurrentKeyIsRefused(t *testing.T) {
	p := newPlace(t)
	p.refused[oldSecret.Fingerprint()] = true
	p.Step(t.Context())
	if found := p.uses(); !strings.Contains(found, "I1: refused, although it is what the store publishes [an application that reads one for each use") {
		t.Errorf("got %q", found)
	}
}

func TestARequestWithoutAnAnswerIsAFailure(t *testing.T) {
	p := newPlace(t)
	p.silent = true
	p.Step(t.Context())
	if found := p.uses(); !strings.Contains(found, "I1: no answer: EOF") {
		t.Errorf("got %q", found)
	}
}

func TestAKeyThatCannotBeReadIsAFailure(t *testing.T) {
	p := newPlace(t)
	p.key.Stores = []rotation.Location{{Store: "one", Path: "nowhere"}}
	p.Step(t.Context())
	if found := p.uses(); !strings.Contains(found, "I1: it cannot read one:nowhere") {
		t.Errorf("got %q", found)
	}
}

func TestKeyMaterialBesideTheValuesIsFound(t *testing.T) {
	p := newPlace(t)
	s := p.acts.Stores["one"]
	p.Step(t.Context())
	snap, err := s.Load(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	if found := p.leaks(); len(found) > 0 {
		t.Fatal(found)
	}
	snap.Pending = &store.Version{Number: "7", Stamp: oldSecret.Reveal()}
	if _, err := s.Save(t.Context(), "p", snap); err != nil {
		t.Fatal(err)
	}
	if found := strings.Join(p.leaks(), "\n"); !strings.Contains(found, "I5: a part of the value "+oldSecret.Fingerprint()) {
		t.Errorf("got %q", found)
	}
}

func TestANewHistoryKeepsTheApplicationsAndTheirCopies(t *testing.T) {
	p := newPlace(t)
	p.Step(t.Context())
	p.publish(p.acts.Stores["one"], newSecret)
	p.Reset(rotation.Manual)
	p.refused[oldSecret.Fingerprint()] = true
	p.Step(t.Context())
	if found := p.uses(); !strings.Contains(found, "I2: refused") || strings.Contains(found, "I1") {
		t.Errorf("got %q", found)
	}
}

func TestFindingsLookAtTheEnd(t *testing.T) {
	p := newPlace(t)
	p.publish(p.acts.Stores["one"], newSecret)
	p.publish(p.acts.Stores["one"], oldSecret)
	found := strings.Join(p.Findings(t.Context(), rotation.Result{Phase: rotation.Completed}), "\n")
	if !strings.Contains(found, "I3: "+newSecret.Fingerprint()+" is still accepted, which no application reads") {
		t.Errorf("got:\n%s", found)
	}
}
