package activities_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

func TestWhatATerminatedRotationLeftPendingIsClearedByTheNextCreate(t *testing.T) {
	for sentence, o := range map[string]scenario.Options{
		"where the provider keeps stamps":      {},
		"where it keeps none":                  {Mode: "create"},
		"where its list does not show it yet":  {ListLag: "1h"},
		"where neither stamps nor list can do": {Mode: "create", ListLag: "1h"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, setup{stores: []string{scenario.Alias, scenario.Latest}, opts: o})
			if o.ListLag != "" {
				r.Cloud.SetTiming(simcloud.Timing{ListLag: time.Hour})
			}
			left := r.store(r1, r.create(r1))
			n := r.create(r2)
			r.keys(r.oldID, n.KeyID)
			if _, err := r.acts.Stores[scenario.Alias].Read(context.Background(), "ci", left.Numbers[0]); !fault.Is(err, fault.NotFound) {
				t.Errorf("the value of the deleted key can still be read: %v", err)
			}
			n = r.store(r2, n)
			if s := r.record(1); s.Pending == nil || s.Pending.KeyID != n.KeyID {
				t.Errorf("the second store still has %+v pending", s.Pending)
			}
			if _, err := r.acts.Stores[scenario.Latest].Read(context.Background(), "ci-latest", left.Numbers[1]); !fault.Is(err, fault.NotFound) {
				t.Errorf("the value of the deleted key can still be read in the second store: %v", err)
			}
			r.discard(r2)
			r.keys(r.oldID)
		})
	}
}

func TestTheDutiesOfATerminatedRotationAreInherited(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	n, old := r.published(r1)
	p, err := r.prepare(r2, rotation.Scheduled)
	if err != nil {
		t.Fatal(err)
	}
	if p.Verdict.Work != rotation.Finish || p.New == nil || p.New.KeyID != n.KeyID || len(p.Old) != 1 || p.Old[0].KeyID != r.oldID {
		t.Fatalf("a fresh key with a duty: %+v, new %+v, old %+v", p.Verdict, p.New, p.Old)
	}
	if !slices.Equal(p.Old[0].Numbers, old[0].Numbers) {
		t.Errorf("the old versions are %v, were %v", p.Old[0].Numbers, old[0].Numbers)
	}
	if p, err = r.prepare(r2, rotation.Manual); err != nil || p.Verdict.Work != rotation.Rotate || len(p.Old) != 2 || p.Old[0].KeyID != n.KeyID || p.Old[1].KeyID != r.oldID {
		t.Fatalf("asked by a person: %+v, old %+v, %v", p.Verdict, p.Old, err)
	}
	if err := r.revoke(r2, activities.DeleteKey, p.Old[1]); err != nil {
		t.Fatal(err)
	}
	r.retire(r2, p.Old[1])
	if p, err = r.prepare(r3, rotation.Scheduled); err != nil || p.Verdict.Work != rotation.Nothing {
		t.Errorf("after the duty was done: %+v, %v", p.Verdict, err)
	}
	r.keys(n.KeyID)
}

func TestARotationThatWasTerminatedInTheMiddleOfPromoteLeavesTwoOldKeys(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	p, err := r.prepare(r1, rotation.Manual)
	if err != nil {
		t.Fatal(err)
	}
	n := r.store(r1, r.create(r1))
	cut := simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AddSecretVersion", Target: "secrets/ci-latest", Except: "pending", Times: 1, Kind: simcloud.Refuse, Code: 503}
	r.Cloud.Inject(cut)
	if _, err := r.tryPromote(r1, n, p.Old...); err == nil {
		t.Fatal("promote finished")
	}
	p, err = r.prepare(r2, rotation.Scheduled)
	if err != nil || p.Verdict.Rule != "stores-disagree" || len(p.Old) != 2 {
		t.Fatalf("%+v, old %+v, %v", p.Verdict, p.Old, err)
	}
	second := r.store(r2, r.create(r2))
	out, err := r.tryPromote(r2, second, p.Old...)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.revoke(r2, activities.DeleteKey, p.Old...); err != nil {
		t.Fatal(err)
	}
	r.retire(r2, p.Old...)
	r.keys(out.To.KeyID)
}

// other is a second installation with a key of the same name and account under its own path.
func (r *fixture) other(path string) *fixture {
	r.Helper()
	yaml := strings.Replace(r.YAML(), "install: scene1", "install: other1", 1)
	yaml = strings.Replace(yaml, "path: ci}", "path: "+path+"}", 1)
	o := &fixture{T: r.T, Scenario: r.Scenario, Clock: r.Clock, begin: r.begin, oldID: r.oldID}
	o.acts, o.key = o.open(yaml)
	return o
}

func TestTwoInstallsOfOneAccountNeverTouchEachOthersKeys(t *testing.T) {
	a := newFixture(t, google(scenario.Alias))
	if err := a.SM.CreateSecret("ci-b", a.First("ci")); err != nil {
		t.Fatal(err)
	}
	if err := a.SM.SetAlias("ci-b", "current", 1); err != nil {
		t.Fatal(err)
	}
	b := a.other("ci-b")
	// A key of a that stands nowhere, and one that is pending.
	ctx, account := context.Background(), scenario.Account("ci")
	stray, err := a.acts.Providers["google"].Mint(ctx, account, rotation.Stamp{Install: "scene1", Key: "ci", Rotation: r3, Attempt: 1}.String())
	if err != nil {
		t.Fatal(err)
	}
	a.rules.Foreign = []string{stray.ID}
	b.Advance(24 * time.Hour)
	b.create(r1)
	b.discard(r1)
	bNew := b.create(r2)
	a.keys(a.oldID, stray.ID, bNew.KeyID)
	a.rules.Foreign = nil
	a.claimed(r3)
	a.create(r1)
	a.Advance(24 * time.Hour)
	a.discard(r1)
	a.keys(a.oldID, bNew.KeyID)
}

func TestAPathOfAnotherInstallIsAQuestionAndTakenOverOnlyWhenToldTo(t *testing.T) {
	a := newFixture(t, google(scenario.Alias))
	aNew := a.create(r1)
	b := a.other("ci")
	p, err := b.prepare(r2, rotation.Manual)
	if err != nil || !names(p.Question, "scene1") {
		t.Fatalf("Prepare: %q, %v", p.Question, err)
	}
	a.Advance(a.horizon())
	before := a.record(0)
	out, err := b.tryCreate(r2)
	if err != nil || out.Question == nil || out.New != nil {
		t.Fatalf("Create: %+v, %v", out, err)
	}
	if after := a.record(0); after.Revision != before.Revision {
		t.Error("a question changed the record")
	}
	a.keys(a.oldID, aNew.KeyID)
	out, err = b.acts.Create(context.Background(), activities.CreateInput{Target: b.target(r2), StartedAt: b.begin, ApprovedQuestions: []rotation.Ask{*out.Question}})
	if b.note(out, err); err != nil || out.New == nil {
		t.Fatalf("taken over: %+v, %v", out, err)
	}
	if s := a.record(0); s.Install != "other1" || s.Claim.Install != "other1" || s.Pending.KeyID != out.New.KeyID {
		t.Errorf("the record after the takeover: %+v", s.Record)
	}
	// The other install's key is not ours to delete, so its value must not be lost.
	a.keys(a.oldID, aNew.KeyID, out.New.KeyID)
	if _, err := a.acts.Stores[scenario.Alias].Read(context.Background(), "ci", aNew.Numbers[0]); err != nil {
		t.Errorf("the value of the other install's key was destroyed: %v", err)
	}
}

func TestAClaimThatIsNewerThanTheRotationIsAQuestion(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.Advance(time.Minute)
	r.write(0, func(s *store.Snapshot) {
		s.Claim = &store.Claim{Install: "scene1", Rotation: r2, Attempt: 1, At: r.Now(), Settled: true}
	})
	if out, err := r.tryCreate(r1); err != nil || !names(out.Question, r2) {
		t.Errorf("%+v, %v", out, err)
	}
	if p, err := r.prepare(r1, rotation.Manual); err != nil || !names(p.Question, r2) {
		t.Errorf("%q, %v", p.Question, err)
	}
	r.keys(r.oldID)
}

func TestAClaimOfARotationThatThisOneFollowsIsNoQuestionHoweverTheClocksGo(t *testing.T) {
	for sentence, s := range map[string]setup{"where rekey mints": google(scenario.Alias), "where a person supplies": openAI(scenario.Alias)} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, s)
			// The worker's clock is a minute ahead of the server's.
			r.Advance(time.Minute)
			r.write(0, func(s *store.Snapshot) {
				s.Claim = &store.Claim{Install: "scene1", Rotation: r2, Attempt: 1, At: r.Now(), Settled: true}
			})
			ctx := context.Background()
			for _, c := range []struct {
				predecessors []string
				asks         bool
			}{{nil, true}, {[]string{r3}, true}, {[]string{r3, r2}, false}} {
				p, err := r.acts.Prepare(ctx, activities.PrepareInput{Target: r.target(r1), Reason: rotation.Emergency, StartedAt: r.begin, Predecessors: c.predecessors})
				if r.note(p, err); err != nil || (p.Question != nil) != c.asks {
					t.Errorf("Prepare after %v: %q, %v", c.predecessors, p.Question, err)
				}
				if s.openai {
					version, _ := r.typed("new", "")
					out, err := r.acts.Adopt(ctx, activities.AdoptInput{Target: r.target(r1), Version: version, StartedAt: r.begin, Predecessors: c.predecessors})
					if r.note(out, err); err != nil || (out.Question != nil) != c.asks || (out.New != nil) == c.asks {
						t.Errorf("Adopt after %v: %+v, %v", c.predecessors, out, err)
					}
					continue
				}
				out, err := r.acts.Create(ctx, activities.CreateInput{Target: r.target(r1), StartedAt: r.begin, Predecessors: c.predecessors})
				if r.note(out, err); err != nil || (out.Question != nil) != c.asks || (out.New != nil) == c.asks {
					t.Errorf("Create after %v: %+v, %v", c.predecessors, out, err)
				}
			}
		})
	}
}

func TestAPendingVersionThatNobodyKnowsIsAQuestion(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.create(r1)
	r.write(0, func(s *store.Snapshot) { s.Claim, s.Pending = nil, &store.Version{Number: s.Pending.Number} })
	out, err := r.tryCreate(r2)
	if err != nil || out.Question == nil {
		t.Fatalf("%+v, %v", out, err)
	}
}

// An abandoned Retire of a rotation that was terminated runs while the next rotation has minted and staged.
func TestALateSweepOfATerminatedRotationSparesTheNextOnesKey(t *testing.T) {
	for _, stagedFirst := range []bool{true, false} {
		name := "between mint and stage"
		if stagedFirst {
			name = "when it is pending"
		}
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			_, old := r.published(r1)
			if err := r.revoke(r1, activities.DeleteKey, old...); err != nil {
				t.Fatal(err)
			}
			// The horizon is over by the clock, but not the time of a step.
			r.Advance(r.horizon())
			held := inStore("AddSecretVersion", simcloud.Hold)
			held.Reached, held.Release = make(chan struct{}), make(chan struct{})
			r.Cloud.Inject(held)
			made := make(chan activities.Created)
			go func() {
				out, _ := r.tryCreate(r2)
				made <- out
			}()
			<-held.Reached
			if !stagedFirst {
				if _, err := r.tryRetire(r1, old...); err != nil {
					t.Fatal(err)
				}
			}
			close(held.Release)
			out := <-made
			if stagedFirst {
				r.Advance(24 * time.Hour)
				if _, err := r.tryRetire(r1, old...); err != nil {
					t.Fatal(err)
				}
			}
			if out.New == nil || !r.live(out.New.KeyID) {
				t.Errorf("the key of the rotation at work was swept: %+v", out)
			}
			if c := r.record(0).Claim; c == nil || c.Rotation != r2 {
				t.Errorf("its claim was given back: %+v", c)
			}
		})
	}
}

func TestAFullAccountIsSaidBeforeAnythingIsDone(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	ids := []string{r.oldID}
	for range 9 {
		id, _, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	r.rules.Foreign = ids
	_, err := r.prepare(r1, rotation.Manual)
	f := r.fails(err, fault.Rejected, "limit_reached")
	for _, id := range ids {
		if !strings.Contains(f.Advice, id) {
			t.Errorf("the advice does not name %s", id)
		}
	}
	r.keys(ids...)
}

// claimed writes the claim of a rotation that was terminated into the record.
func (r *fixture) claimed(id string) {
	r.write(0, func(s *store.Snapshot) {
		s.Install = "scene1"
		s.Claim = &store.Claim{Install: "scene1", Rotation: id, Attempt: 1, At: r.begin.Add(-time.Second)}
	})
}

func TestAStampThatTheRecordDoesNotKnowIsAQuestionAndNeverDeleted(t *testing.T) {
	// So it is after the restore of a backup, and when the key's path has changed.
	r := newFixture(t, google(scenario.Alias))
	stamp := rotation.Stamp{Install: "scene1", Key: "ci", Rotation: r3, Attempt: 1}
	elsewhere, err := r.acts.Providers["google"].Mint(context.Background(), scenario.Account("ci"), stamp.String())
	if err != nil {
		t.Fatal(err)
	}
	r.rules.Foreign = []string{elsewhere.ID}
	r.Advance(24 * time.Hour)
	out, err := r.tryCreate(r1)
	if err != nil || !names(out.Question, elsewhere.ID) {
		t.Fatalf("%+v, %v", out, err)
	}
	again, err := r.acts.Create(context.Background(), activities.CreateInput{Target: r.target(r1), StartedAt: r.begin, ApprovedQuestions: []rotation.Ask{*out.Question}})
	if r.note(again, err); err != nil || again.New == nil {
		t.Fatalf("approved: %+v, %v", again, err)
	}
	r.discard(r1)
	r.keys(r.oldID, elsewhere.ID)
}

func TestOrphansDoNotCountTowardsTheLimitAndAreRemovedByCreate(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	var foreign []string
	for range 8 {
		id, _, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
		if err != nil {
			t.Fatal(err)
		}
		foreign = append(foreign, id)
	}
	r.rules.Foreign = append(foreign, r.oldID)
	stamp := rotation.Stamp{Install: "scene1", Key: "ci", Rotation: r3, Attempt: 1}
	if _, err := r.acts.Providers["google"].Mint(context.Background(), scenario.Account("ci"), stamp.String()); err != nil {
		t.Fatal(err)
	}
	r.claimed(r3)
	r.Advance(time.Hour)
	if _, err := r.prepare(r1, rotation.Manual); err != nil {
		t.Fatalf("nine keys and an orphan: %v", err)
	}
	n := r.create(r1)
	r.keys(append(foreign, r.oldID, n.KeyID)...)
}
