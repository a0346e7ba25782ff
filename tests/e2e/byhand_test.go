package e2e

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

// byHand are the activities of a rotation in which a person makes the new key and revokes the old one.
var byHand = []string{"Adopt", "Store", "Verify", "Promote", "Confirm", "Retire"}

// person does what people do for a key: in the provider's console, and with `rekey supply`.
type person struct {
	*env
	// names are the ids of the keys that this person made, by fingerprint.
	names map[string]string
}

// newByHand has the OpenAI key "gpt" in two stores.
func newByHand(t *testing.T, o scenario.Options, kill ...string) *person {
	t.Helper()
	return &person{env: start(t, fixture{name: "gpt", add: (*scenario.Scenario).OpenAIKey, scenario: o, kill: kill}), names: map[string]string{}}
}

// create makes a key in the console.
func (p *person) create() (id string, v secret.Value) {
	id, v = p.OpenAI.CreateKey(p.key().Account, "made by hand, again")
	p.made = append(p.made, v)
	p.names[v.Fingerprint()] = id
	return id, v
}

// stage puts a key into the first store, as `rekey supply` does before it signals the rotation.
func (p *person) stage(v secret.Value) (version string) {
	p.Helper()
	version, err := p.tryStage(v)
	if err != nil {
		p.Fatalf("the key cannot be staged: %v", err)
	}
	return version
}

func (p *person) tryStage(v secret.Value) (version string, err error) {
	s, err := p.status()
	if err != nil {
		return "", err
	}
	version, _, err = p.Setup.StageSupplied(context.Background(), p.key(), s.Rotation, v)
	return version, err
}

// supply waits until a key is wanted, makes one and supplies it.
func (p *person) supply() (id string, v secret.Value) {
	p.Helper()
	p.waitFor(rotation.AwaitingKey)
	id, v = p.create()
	p.tell(rotation.KeySupplied, rotation.DecisionMessage{By: "a person", Version: p.stage(v)})
	return id, v
}

// revoke waits until the old key is to be revoked, checks that it may be, revokes it and says so.
func (p *person) revoke() {
	p.Helper()
	p.waitFor(rotation.AwaitingRevocation)
	p.checkRevocable()
	if err := p.OpenAI.DeleteKey(p.oldID); err != nil {
		p.Fatal(err)
	}
	// Now and then the rotation looks again whether the old key may go, and takes the word only when it has seen that it may.
	var err error
	for range 20 {
		err = p.tryTell(rotation.KeyRevoked, rotation.DecisionMessage{By: "e2e", Why: "the test says so"})
		if refused, ok := errors.AsType[*temporal.ApplicationError](err); !ok || refused.Type() != "RejectedDecision" {
			break
		}
		p.waitFor(rotation.AwaitingRevocation)
	}
	if err != nil {
		p.Fatal(err)
	}
}

// checkRevocable checks I2: a person is asked to revoke the old key only after every store gives applications a new one.
func (p *person) checkRevocable() {
	p.Helper()
	for path, id := range p.Cloud.PublishedKeys() {
		if id == p.oldID {
			p.Errorf("I2: a person is asked to revoke the old key while applications read it at %s", path)
		}
	}
}

// replacedBy checks that a rotation ended well, that applications read the key id, and that nothing is left of it but
// that. aside are keys that the person made and that the rotation did not take.
func (p *person) replacedBy(res rotation.Result, id string, v secret.Value, aside ...string) {
	p.Helper()
	if res.Phase != rotation.Completed || res.New != v.Fingerprint() || !slices.Equal(res.Revoked, []string{p.First(p.name).Fingerprint()}) {
		p.Errorf("the rotation ended as %s with the new key %s, want %s; revoked: %v (%s)", res.Phase, res.New, v.Fingerprint(), res.Revoked, res.Outcome)
	}
	live := p.Cloud.LiveKeys()
	for _, other := range aside {
		if _, ok := live[other]; !ok {
			p.Errorf("I4: the key %s, which rekey was not told to replace, is gone", other)
		}
		delete(live, other)
	}
	if _, ok := live[id]; !ok || len(live) != 1 {
		p.Errorf("keys %v, want %s alone", live, id)
	}
	published := p.Cloud.PublishedKeys()
	for _, l := range p.key().Stores {
		if got := published[scenario.Path(l.Store, p.name)]; got != id {
			p.Errorf("applications read %s in %s, want %s", got, l, id)
		}
		s, err := p.Setup.Stores[l.Store].Load(context.Background(), l.Path)
		if err != nil {
			p.Fatal(err)
		}
		if s.Claim != nil || s.Pending != nil || s.Previous != nil || len(s.Duties) > 0 {
			p.Errorf("the record of %s is not tidy: %+v", l, s.Record)
		}
	}
}

// versions returns the versions of the i-th store that can be read.
func (p *person) versions(i int) []string {
	p.Helper()
	l := p.key().Stores[i]
	all, err := p.Setup.Stores[l.Store].Versions(context.Background(), l.Path)
	if err != nil {
		p.Fatal(err)
	}
	return all
}

// oneVersion checks that the stores hold the value that applications read, and no other.
func (p *person) oneVersion() {
	p.Helper()
	for i, l := range p.key().Stores {
		if all := p.versions(i); len(all) != 1 {
			p.Errorf("%s still holds the versions %v", l, all)
		}
	}
}

func TestAWorkerKilledAroundAnyActivityOfARotationByHandLosesNothing(t *testing.T) {
	t.Parallel()
	for _, moments := range spread(steps(byHand, "Adopt", "Promote")) {
		t.Run("killed at "+strings.Join(moments, " "), func(t *testing.T) {
			t.Parallel()
			p := newByHand(t, scenario.Options{}, moments...)
			run := p.start(rotation.Manual)
			id, v := p.supply()
			p.revoke()
			p.replacedBy(p.end(run), id, v)
			p.oneVersion()
			p.Killed()
			p.noSecrets()
		})
	}
}

func TestAWorkerKilledWhileASuppliedKeyIsDiscardedLeavesItToThePerson(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		t.Run("killed just "+when+" Discard", func(t *testing.T) {
			t.Parallel()
			p := newByHand(t, scenario.Options{}, "Discard/"+when)
			// The new key is never accepted.
			p.Cloud.SetTiming(simcloud.Timing{Propagation: time.Hour})
			run := p.start(rotation.Manual)
			id, v := p.supply()
			p.waitFor(rotation.Verify)
			p.decide(rotation.RollBack)
			res := p.end(run)
			if live := p.Cloud.LiveKeys(); res.Phase != rotation.RolledBack || len(live) != 2 {
				t.Errorf("ended as %s with keys %v; want the old one, and the person's %s", res.Phase, live, id)
			}
			if !strings.Contains(strings.Join(res.FollowUps, "\n"), v.Fingerprint()) {
				t.Errorf("nobody tells the person what to do with the key %s: %v", v.Fingerprint(), res.FollowUps)
			}
			p.oneVersion()
			p.Killed()
			p.noSecrets()
		})
	}
}

func TestARotationByHandIsKilledAtEveryStepAndStillEnds(t *testing.T) {
	t.Parallel()
	p := newByHand(t, scenario.Options{})
	run := p.start(rotation.Manual)
	p.waitFor(rotation.AwaitingKey)
	p.KillWorker()
	id, v := p.supply()
	p.KillWorker()
	p.waitFor(rotation.AwaitingRevocation)
	p.KillWorker()
	p.revoke()
	p.KillWorker()
	p.replacedBy(p.end(run), id, v)
	p.noSecrets()
}

// A `supply` that dies between store and Temporal leaves a value in the store that the rotation was not told of.
func TestASupplyThatDidNotTellTheRotationIsNoDeadEnd(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(p *person, first string, v secret.Value) (id string, taken secret.Value, aside []string){
		"the same key is supplied again": func(p *person, first string, v secret.Value) (string, secret.Value, []string) {
			p.tell(rotation.KeySupplied, rotation.DecisionMessage{By: "a person", Version: p.stage(v)})
			return first, v, nil
		},
		"another key is supplied": func(p *person, first string, _ secret.Value) (string, secret.Value, []string) {
			id, v := p.supply()
			return id, v, []string{first}
		},
		"an update without a version takes what stands there": func(p *person, first string, v secret.Value) (string, secret.Value, []string) {
			p.tell(rotation.KeySupplied, rotation.DecisionMessage{By: "a person"})
			return first, v, nil
		},
		"a signal without a version takes what stands there": func(p *person, first string, v secret.Value) (string, secret.Value, []string) {
			if err := p.Client.SignalWorkflow(context.Background(), p.id(), "", string(rotation.KeySupplied), nil); err != nil {
				p.Fatal(err)
			}
			return first, v, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newByHand(t, scenario.Options{})
			run := p.start(rotation.Manual)
			p.waitFor(rotation.AwaitingKey)
			first, v := p.create()
			p.stage(v)
			if s, err := p.status(); err != nil || s.Phase != rotation.AwaitingKey || s.Deadline.IsZero() || !strings.Contains(s.Details, "rekey supply gpt") {
				t.Errorf("I7: the rotation does not say what it waits for: %+v, %v", s, err)
			}
			id, taken, aside := again(p, first, v)
			p.revoke()
			p.replacedBy(p.end(run), id, taken, aside...)
			p.noSecrets()
		})
	}
}

func TestASecondSupplyReplacesAFirstThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]func(*person) (version string){
		"a key of another project": func(p *person) string {
			_, v := p.OpenAI.CreateKey("proj_other", "of others")
			return p.add(v)
		},
		"the old key once more":           func(p *person) string { return p.add(p.First(p.name)) },
		"what is no key":                  func(p *person) string { return p.add(secret.FromString("hunter2")) },
		"what applications read":          func(p *person) string { return "1" },
		"a version that is not there":     func(p *person) string { return "99" },
		"a version that nobody can parse": func(p *person) string { return "seven" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newByHand(t, scenario.Options{})
			run := p.start(rotation.Manual)
			p.waitFor(rotation.AwaitingKey)
			p.tell(rotation.KeySupplied, rotation.DecisionMessage{By: "a person", Version: first(p)})
			p.eventually("the rotation says that the key cannot be used", func(s rotation.Status) bool {
				return s.Phase == rotation.AwaitingKey && strings.Contains(s.Details, "cannot be used")
			})
			before := p.Cloud.LiveKeys()
			delete(before, p.oldID)
			var aside []string
			for id := range before {
				aside = append(aside, id)
			}
			id, v := p.supply()
			p.revoke()
			p.replacedBy(p.end(run), id, v, aside...)
		})
	}
}

// add puts a value into the first store with other tools than ours.
func (p *person) add(v secret.Value) (version string) {
	p.Helper()
	l := p.key().Stores[0]
	version, err := p.Setup.Stores[l.Store].Add(context.Background(), l.Path, v)
	if err != nil {
		p.Fatal(err)
	}
	return version
}

func TestAKeySuppliedInQuotesIsStoredCleanlyHoweverOftenTheWorkerDies(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		t.Run("killed just "+when+" Adopt", func(t *testing.T) {
			t.Parallel()
			p := newByHand(t, scenario.Options{}, "Adopt/"+when)
			run := p.start(rotation.Manual)
			p.waitFor(rotation.AwaitingKey)
			id, v := p.create()
			p.tell(rotation.KeySupplied, rotation.DecisionMessage{By: "a person", Version: p.add(secret.FromString(" \"" + v.Reveal() + "\"\n"))})
			p.revoke()
			p.replacedBy(p.end(run), id, v)
			p.oneVersion()
			p.Killed()
			p.noSecrets()
		})
	}
}

func TestAPersonWhoHasNotRevokedTheKeyIsAskedAgain(t *testing.T) {
	t.Parallel()
	p := newByHand(t, scenario.Options{RevocationLag: "1s"})
	run := p.start(rotation.Manual)
	id, v := p.supply()
	p.waitFor(rotation.AwaitingRevocation)
	p.decide(rotation.KeyRevoked)
	p.eventually("the claim is refuted", func(s rotation.Status) bool {
		return s.Phase == rotation.AwaitingRevocation && strings.Contains(s.Details, "it was not revoked")
	})
	p.revoke()
	p.replacedBy(p.end(run), id, v)
}

func TestARotationByHandThatIsResetTakesTheKeyThatItPublished(t *testing.T) {
	t.Parallel()
	p := newByHand(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	run := p.start(rotation.Manual)
	id, v := p.supply()
	p.waitFor(rotation.Grace)
	// Temporal returns the reset workflow the messages again that it had.
	p.resetTo(run.GetRunID(), "Adopt")
	p.waitFor(rotation.Grace)
	p.decide(rotation.FinishGrace)
	p.revoke()
	p.replacedBy(p.end(p.Client.GetWorkflow(context.Background(), p.id(), "")), id, v)
	p.oneVersion()
}

func TestASecondSupplyReplacesAFirstThatIsStillBeingChecked(t *testing.T) {
	t.Parallel()
	p := newByHand(t, scenario.Options{})
	p.keep("second-supply")
	run := p.start(rotation.Manual)
	p.waitFor(rotation.AwaitingKey)
	first, v := p.create()
	version := p.stage(v)
	reached, release := make(chan struct{}), make(chan struct{})
	p.Cloud.Inject(simcloud.Fault{Service: "openai", Target: first, Times: 1, Kind: simcloud.Hold, Reached: reached, Release: release})
	p.tell(rotation.KeySupplied, rotation.DecisionMessage{By: "a person", Version: version})
	<-reached
	// The rotation takes the second one, so the person need not care for the first any more.
	id, v := p.supply()
	close(release)
	p.revoke()
	p.replacedBy(p.end(run), id, v, first)
}
