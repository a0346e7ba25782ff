package activities_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

func TestRevokeRefusesWhatAnybodyReadsOrIsAboutTo(t *testing.T) {
	for sentence, c := range map[string]struct {
		prepare func(r *fixture, n, old activities.Ref)
		which   func(n, old activities.Ref) activities.Ref
		advice  string
	}{
		"the current key": {
			which:  func(n, _ activities.Ref) activities.Ref { return n },
			advice: "as current",
		},
		"a key that is pending in the second store": {
			prepare: func(r *fixture, _, old activities.Ref) {
				r.write(1, func(s *store.Snapshot) {
					s.Pending = &store.Version{Number: "p1", KeyID: old.KeyID, Fingerprint: old.Fingerprint, Rotation: r2}
				})
			},
			advice: "as pending",
		},
		"the old key, when somebody moved the alias back by hand": {
			prepare: func(r *fixture, _, _ activities.Ref) {
				if err := r.SM.SetAlias("ci", "current", 1); err != nil {
					r.Fatal(err)
				}
			},
			advice: "as current",
		},
		"the old key, when somebody added it again by hand": {
			prepare: func(r *fixture, _, _ activities.Ref) {
				if _, err := r.SM.AddVersion("ci-latest", r.First("ci")); err != nil {
					r.Fatal(err)
				}
			},
			advice: "as current",
		},
		"the old key, while readers still see the old alias": {
			prepare: func(r *fixture, _, _ activities.Ref) {
				// Back and forth, with a lag: the record is as it was, applications are not.
				if err := r.SM.SetAlias("ci", "current", 1); err != nil {
					r.Fatal(err)
				}
				r.Cloud.SetTiming(simcloud.Timing{AliasLag: time.Hour})
				if err := r.SM.SetAlias("ci", "current", 2); err != nil {
					r.Fatal(err)
				}
			},
			advice: "still read it",
		},
		"any key, while a store has a third value": {
			prepare: func(r *fixture, _, _ activities.Ref) {
				_, third, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
				if err != nil {
					r.Fatal(err)
				}
				if _, err := r.SM.AddVersion("ci-latest", third); err != nil {
					r.Fatal(err)
				}
			},
			advice: "which was proven and is to stay",
		},
		"any key, while readers still see a third value": {
			prepare: func(r *fixture, _, _ activities.Ref) {
				_, third, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
				if err != nil {
					r.Fatal(err)
				}
				number, err := r.SM.AddVersion("ci", third)
				if err != nil {
					r.Fatal(err)
				}
				if err := r.SM.SetAlias("ci", "current", number); err != nil {
					r.Fatal(err)
				}
				r.Cloud.SetTiming(simcloud.Timing{AliasLag: time.Hour})
				if err := r.SM.SetAlias("ci", "current", 2); err != nil {
					r.Fatal(err)
				}
			},
			advice: "which was proven and is to stay",
		},
		"a key that no rotation promised to revoke": {
			prepare: func(r *fixture, _, _ activities.Ref) {
				for i := range r.key.Stores {
					r.write(i, func(s *store.Snapshot) { s.Duties = nil })
				}
			},
			advice: "promised",
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, old := r.published(r1)
			if c.prepare != nil {
				c.prepare(r, n, old[0])
			}
			which := old[0]
			if c.which != nil {
				which = c.which(n, old[0])
			}
			for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.DeleteKey} {
				f := r.fails(r.revoke(r1, mode, which), fault.Rejected, activities.StillStaged)
				if !strings.Contains(f.Advice, c.advice) {
					t.Errorf("%s: %q does not say %q", mode, f.Advice, c.advice)
				}
			}
			for _, e := range r.Cloud.Journal() {
				if e.Kind == simcloud.KeyDisabled || e.Kind == simcloud.KeyDeleted {
					t.Errorf("%s %s", e.Kind, e.KeyID)
				}
			}
		})
	}
}

func TestRevokeDisablesEnablesAndDeletesAndIsHarmlessTwice(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	n, old := r.published(r1)
	for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.EnableKey, activities.DisableKey, activities.DeleteKey} {
		for range 2 {
			if err := r.revoke(r1, mode, old...); err != nil {
				t.Fatalf("%s: %v", mode, err)
			}
		}
	}
	r.keys(n.KeyID)
	out, err := r.acts.Confirm(context.Background(), activities.ConfirmInput{Target: r.target(r1), Keys: old, New: &n})
	if r.note(out, err); err != nil || len(out.Accepted)+len(out.Unproven) > 0 || out.NewRefused {
		t.Errorf("Confirm: %+v, %v", out, err)
	}
}

func TestRevokeWithoutAnIDAsksForAPerson(t *testing.T) {
	r := newFixture(t, setup{openai: true, stores: []string{scenario.Alias}})
	current := r.record(0).Current
	old := activities.Ref{Fingerprint: r.First("gpt").Fingerprint(), Numbers: []string{current.Number}}
	f := r.fails(r.revoke(r1, activities.DeleteKey, old), fault.Rejected, "no_id")
	if !strings.Contains(f.Advice, "https://platform.openai.com/") {
		t.Errorf("the advice has no link: %q", f.Advice)
	}
}

func TestConfirmSaysWhatStillPasses(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	n, old := r.published(r1)
	out, err := r.acts.Confirm(context.Background(), activities.ConfirmInput{Target: r.target(r1), Keys: old, New: &n})
	if r.note(out, err); err != nil || !slices.Equal(out.Accepted, []string{r.oldID}) {
		t.Errorf("a key that was not revoked: %+v, %v", out, err)
	}
	// Without its value the list is the proof.
	old[0].Numbers = []string{""}
	out, err = r.acts.Confirm(context.Background(), activities.ConfirmInput{Target: r.target(r1), Keys: old})
	if r.note(out, err); err != nil || !slices.Equal(out.Accepted, []string{r.oldID}) {
		t.Errorf("without its value: %+v, %v", out, err)
	}
}

func TestRetireGoesOnWhereverItWasCutOff(t *testing.T) {
	for sentence, cut := range map[string]simcloud.Fault{
		"before the first record is written":  {Method: "UpdateSecret", Target: "secrets/ci"},
		"after it, without an answer":         {Method: "UpdateSecret", Target: "secrets/ci", Kind: simcloud.LoseReply},
		"before the first version is gone":    {Method: "DestroySecretVersion", Target: "secrets/ci"},
		"after it, without an answer too":     {Method: "DestroySecretVersion", Target: "secrets/ci", Kind: simcloud.LoseReply},
		"before the second record is written": {Method: "UpdateSecret", Target: "secrets/ci-latest"},
		"after the second, without an answer": {Method: "UpdateSecret", Target: "secrets/ci-latest", Kind: simcloud.LoseReply},
		"before the sweep":                    {Service: simcloud.GoogleIAMService, Method: "ListServiceAccountKeys"},
		"before the claim is given back":      {Method: "UpdateSecret", Target: "secrets/ci", Skip: 1, Except: "latest"},
		"after it was, without an answer":     {Method: "UpdateSecret", Target: "secrets/ci", Skip: 1, Except: "latest", Kind: simcloud.LoseReply},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, old := r.published(r1)
			if err := r.revoke(r1, activities.DeleteKey, old...); err != nil {
				t.Fatal(err)
			}
			if cut.Service == "" {
				cut.Service = simcloud.SecretManagerService
			}
			if cut.Kind == 0 {
				cut.Kind = simcloud.DropBefore
			}
			cut.Times = 1
			r.Cloud.Inject(cut)
			_, err := r.tryRetire(r1, old...)
			_ = r.fails(err, fault.Unavailable, "")
			for range 2 {
				r.retire(r1, old...)
				r.keys(n.KeyID)
				for i := range r.key.Stores {
					s := r.record(i)
					if s.Claim != nil || s.Pending != nil || s.Previous != nil || len(s.Duties) > 0 || s.Current == nil || s.Current.KeyID != n.KeyID {
						t.Errorf("record %d: %+v", i, s.Record)
					}
					l := r.key.Stores[i]
					if _, err := r.acts.Stores[l.Store].Read(context.Background(), l.Path, old[0].Numbers[i]); !fault.Is(err, fault.NotFound) {
						t.Errorf("the old value can still be read in %s: %v", l, err)
					}
				}
			}
		})
	}
}

func TestNothingIsTakenAwayWhileApplicationsReadAValueThatWasNeverProven(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	to, old := r.published(r1)
	// Somebody points current at a value of their own.
	_, foreign, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		t.Fatal(err)
	}
	number, err := r.SM.AddVersion("ci", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SM.SetAlias("ci", "current", number); err != nil {
		t.Fatal(err)
	}
	_ = r.fails(r.revokeKeeping(r1, activities.DeleteKey, to, old...), fault.Rejected, activities.StillStaged)
	if _, err := r.acts.Retire(context.Background(), activities.RetireInput{Target: r.target(r1), Keep: &to}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{to.KeyID, r.oldID} {
		if _, ok := r.Cloud.LiveKeys()[id]; !ok {
			t.Errorf("the key %s is gone", id)
		}
	}
}

// switchedOff disables a key behind rekey's back.
func (r *fixture) switchedOff(id string) {
	r.Helper()
	r.rules.MayDie = append(r.rules.MayDie, id)
	if err := r.acts.Providers[r.key.Provider].Disable(context.Background(), r.key.Account, id); err != nil {
		r.Fatal(err)
	}
}

func TestTheOldKeyStaysWhileTheOneThatApplicationsReadIsRefusedUnlessItLeaked(t *testing.T) {
	for _, mode := range []activities.RevokeMode{activities.DisableKey, activities.DeleteKey} {
		t.Run(string(mode), func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			n, old := r.published(r1)
			r.switchedOff(n.KeyID)
			f := r.fails(r.revoke(r1, mode, old...), fault.Rejected, activities.StillStaged)
			if !strings.Contains(f.Advice, "without this one they would have none") || !r.live(r.oldID) {
				t.Errorf("the old key is live: %t; the advice is %q", r.live(r.oldID), f.Advice)
			}
			if _, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: mode, Emergency: "ada"}); err != nil {
				t.Errorf("what leaked stays: %v", err)
			}
		})
	}
}

func TestConfirmTellsWhatIsRefusedFromWhatCannotBeTried(t *testing.T) {
	for sentence, c := range map[string]struct {
		setup setup
		which func(r *fixture) (keys []activities.Ref, stays *activities.Ref)
		want  activities.Confirmed
	}{
		"a disabled key whose value nobody has is in the list, and refused": {setup: google(scenario.Alias), which: func(r *fixture) ([]activities.Ref, *activities.Ref) {
			n, old := r.published(r1)
			if err := r.revoke(r1, activities.DisableKey, old...); err != nil {
				r.Fatal(err)
			}
			old[0].Numbers = []string{""}
			return old, &n
		}},
		"a value that nobody has, where there is no list, cannot be tried": {setup: setup{openai: true, stores: []string{scenario.Alias}}, which: func(*fixture) ([]activities.Ref, *activities.Ref) {
			return []activities.Ref{{Fingerprint: "0123456789ab", Numbers: []string{""}}}, nil
		}, want: activities.Confirmed{Unproven: []string{"0123456789ab"}}},
		"the key that stays may have been taken away in its place": {setup: google(scenario.Alias), which: func(r *fixture) ([]activities.Ref, *activities.Ref) {
			n, _ := r.published(r1)
			r.switchedOff(n.KeyID)
			return nil, &n
		}, want: activities.Confirmed{NewRefused: true}},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, c.setup)
			keys, stays := c.which(r)
			out, err := r.acts.Confirm(context.Background(), activities.ConfirmInput{Target: r.target(r1), Keys: keys, New: stays})
			if r.note(out, err); err != nil || !reflect.DeepEqual(out, c.want) {
				t.Errorf("%+v, %v, want %+v", out, err, c.want)
			}
		})
	}
}

func TestRetireClearsForTheRotationsThatItFollowsAndForNobodyElse(t *testing.T) {
	for sentence, c := range map[string]struct {
		follows []string
		install string
		swept   int
	}{
		"the rotation before it in the same workflow":  {follows: []string{r1}, swept: 1},
		"another rotation":                             {},
		"one of that name, of another installation":    {follows: []string{r1}, install: "other1", swept: 1},
		"one of that name among several that it knows": {follows: []string{r3, r1}, swept: 1},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			r.Cloud.Inject(upload(simcloud.LoseReply))
			if _, err := r.tryCreate(r1); err == nil {
				t.Fatal("the mint was answered")
			}
			if c.install != "" {
				r.write(0, func(s *store.Snapshot) { s.Claim.Install = c.install })
			}
			r.Advance(r.horizon())
			out, err := r.acts.Retire(context.Background(), activities.RetireInput{Target: r.target(r2), Predecessors: c.follows})
			if r.note(out, err); err != nil || len(out.Swept) != c.swept {
				t.Errorf("swept %v, %v, want %d", out.Swept, err, c.swept)
			}
			given := c.swept > 0 && c.install == ""
			if back := r.record(0).Claim == nil; back != given {
				t.Errorf("the claim was given back: %t, want %t", back, given)
			}
		})
	}
}
