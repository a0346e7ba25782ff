package activities_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// tookAway are the two ways to take a key away, and the method of Google's IAM.
var tookAway = map[activities.RevokeMode]string{activities.DisableKey: "DisableServiceAccountKey", activities.DeleteKey: "DeleteServiceAccountKey"}

func (r *fixture) verify(id string, value activities.Ref) activities.Verified {
	r.Helper()
	out, err := r.acts.Verify(context.Background(), activities.VerifyInput{Target: r.target(id), Value: value})
	if r.note(out, err); err != nil {
		r.Fatalf("Verify: %v", err)
	}
	return out
}

// unanswered loses the answer of the next request of a mode, before or after it takes effect.
func (r *fixture) unanswered(mode activities.RevokeMode, kind simcloud.FaultKind) {
	r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: tookAway[mode], Times: 1, Kind: kind})
}

func TestARevokeWithoutAnAnswerCountsUntilItCanNoLongerTakeEffect(t *testing.T) {
	for mode := range tookAway {
		for sentence, kind := range map[string]simcloud.FaultKind{"it never arrived": simcloud.DropBefore, "its answer was lost": simcloud.LoseReply} {
			t.Run(string(mode)+", "+sentence, func(t *testing.T) {
				r := newFixture(t, google(scenario.Alias, scenario.Latest))
				_, old := r.published(r1)
				r.unanswered(mode, kind)
				_ = r.fails(r.revoke(r1, mode, old...), fault.Unavailable, "")

				// Whoever comes next, and knows nothing of it.
				if out := r.verify(r2, old[0]); out.OK || out.Wait <= 0 || time.Duration(out.Wait) > r.horizon() {
					t.Errorf("Verify does not wait: %+v", out)
				}
				_, err := r.tryPromote(r1, old[0])
				if f := r.fails(err, fault.Unavailable, activities.RevokePending); f.RetryAfter <= 0 {
					t.Errorf("Promote does not say how long: %+v", f)
				}
				r.Advance(r.horizon())
				if out := r.verify(r2, old[0]); out.Wait > 0 || out.OK != (kind == simcloud.DropBefore) {
					t.Errorf("after the horizon: %+v", out)
				}
			})
		}
	}
}

func TestARevokeThatIsRepeatedAfterOneWithoutAnAnswerStillCounts(t *testing.T) {
	for mode := range tookAway {
		t.Run(string(mode), func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			_, old := r.published(r1)
			r.unanswered(mode, simcloud.DropBefore)
			_ = r.fails(r.revoke(r1, mode, old...), fault.Unavailable, "")
			if err := r.revoke(r1, mode, old...); err != nil {
				t.Fatal(err)
			}
			if mode == activities.DisableKey {
				if err := r.revoke(r1, activities.EnableKey, old...); err != nil {
					t.Fatal(err)
				}
			}
			if out := r.verify(r1, old[0]); out.Wait <= 0 {
				t.Errorf("the first request is forgotten: %+v", out)
			}
		})
	}
}

func TestADisableThatWasAnsweredHoldsNothingUp(t *testing.T) {
	for sentence, refused := range map[string]bool{"done": false, "refused": true} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			_, old := r.published(r1)
			if refused {
				r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: tookAway[activities.DisableKey], Times: 1, Kind: simcloud.Refuse, Code: 403})
			}
			if err := r.revoke(r1, activities.DisableKey, old...); (err != nil) != refused {
				t.Fatal(err)
			}
			if err := r.revoke(r1, activities.EnableKey, old...); err != nil {
				t.Fatal(err)
			}
			if out := r.verify(r1, old[0]); !out.OK {
				t.Errorf("%+v", out)
			}
			if left := r.record(0).Revokes; len(left) > 0 {
				t.Errorf("the record still has %+v", left)
			}
		})
	}
}

func TestNothingIsTakenAwayThatCannotBeWrittenDownFirst(t *testing.T) {
	for mode, method := range tookAway {
		t.Run(string(mode), func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			_, old := r.published(r1)
			r.Cloud.Inject(inStore("UpdateSecret", simcloud.DropBefore))
			_ = r.fails(r.revoke(r1, mode, old...), fault.Unavailable, "")
			if n := r.Cloud.Calls(simcloud.GoogleIAMService, method); n > 0 {
				t.Errorf("%s was asked for %d times", mode, n)
			}
			if !r.live(r.oldID) {
				t.Error("the key is gone")
			}
		})
	}
}

func TestARotationWaitsUntilAnUnansweredContainmentIsSettled(t *testing.T) {
	for mode := range tookAway {
		t.Run(string(mode), func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			r.rules.MayDie = []string{r.oldID}
			p, err := r.prepare(r1, rotation.Emergency)
			if err != nil {
				t.Fatal(err)
			}
			r.unanswered(mode, simcloud.LoseReply)
			_, err = r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: p.Old, Mode: mode, Contain: true, Emergency: "ada"})
			_ = r.fails(err, fault.Unavailable, "")

			// The workflow is terminated, and another one begins.
			p, err = r.prepare(r2, rotation.Scheduled)
			if err != nil || p.Wait <= 0 || p.Verdict.Work != "" || p.Horizon <= 0 {
				t.Fatalf("Prepare decides before it can know: %+v, %v", p, err)
			}
			r.Advance(r.horizon())
			p, err = r.prepare(r2, rotation.Scheduled)
			if err != nil || p.Wait > 0 || !p.OldRefused || p.Verdict.Work != rotation.Rotate {
				t.Errorf("after the horizon: %+v, %v", p, err)
			}
		})
	}
}

func TestADiscardWithoutAnAnswerIsKnownToARotationThatWasReset(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	n := r.create(r1)
	r.unanswered(activities.DeleteKey, simcloud.DropBefore)
	_, err := r.tryDiscard(r1)
	_ = r.fails(err, fault.Unavailable, "")
	if again := r.create(r1); again.KeyID != n.KeyID {
		t.Fatalf("another key was made: %s", again.KeyID)
	}
	if out := r.verify(r1, n); out.Wait <= 0 {
		t.Errorf("it is proven although it may yet go: %+v", out)
	}
}

func TestWhatIsClearedIsForgotten(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	_, old := r.published(r1)
	r.unanswered(activities.DeleteKey, simcloud.LoseReply)
	_ = r.fails(r.revoke(r1, activities.DeleteKey, old...), fault.Unavailable, "")
	if left := r.record(0).Revokes; len(left) != 1 {
		t.Fatalf("the record has %+v", left)
	}
	r.retire(r1, old...)
	if left := r.record(0).Revokes; len(left) > 0 {
		t.Errorf("the record still has %+v", left)
	}
}

func TestARotationThatWasResetWhileItRolledBackStartsAnew(t *testing.T) {
	for sentence, stores := range map[string][]string{"one store": {scenario.Alias}, "two stores": {scenario.Alias, scenario.Latest}} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(stores...))
			n, old := r.published(r1)
			if p, err := r.prepare(r1, rotation.Manual); err != nil || p.StartAnew {
				t.Fatalf("before the roll-back: %+v, %v", p, err)
			}
			if out, err := r.tryPromote(r1, old[0], n); err != nil || len(out.Lagging) > 0 {
				t.Fatalf("%+v, %v", out, err)
			}
			for _, reason := range []rotation.Reason{rotation.Manual, rotation.Emergency} {
				if p, err := r.prepare(r1, reason); err != nil || !p.StartAnew {
					t.Errorf("%s: its own key would be published: %+v, %v", reason, p, err)
				}
			}
			if p, err := r.prepare(r2, rotation.Manual); err != nil || p.StartAnew || len(p.Old) != 2 {
				t.Errorf("the one that follows: %+v, %v", p, err)
			}
		})
	}
}

func TestARecordKeepsTheRequestsThatMayStillTakeEffectAndNoOthers(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	_, old := r.published(r1)
	r.write(0, func(s *store.Snapshot) {
		s.Revokes = []store.Revoke{{KeyID: "over", At: r.Now().Add(-r.horizon())}, {KeyID: "open", At: r.Now().Add(-r.horizon() / 2)}}
	})
	if err := r.revoke(r1, activities.DeleteKey, old...); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, q := range r.record(0).Revokes {
		ids = append(ids, q.KeyID)
	}
	if want := []string{"open", r.oldID}; !slices.Equal(ids, want) {
		t.Errorf("the record has %v, want %v", ids, want)
	}
}

// held runs an activity whose first write of the record waits until what happens meanwhile has happened.
func (r *fixture) held(meanwhile func(), run func() error) error {
	r.Helper()
	release, reached, done := make(chan struct{}), make(chan struct{}), make(chan error)
	r.Cloud.Inject(simcloud.Fault{Service: simcloud.SecretManagerService, Method: "UpdateSecret", Times: 1, Kind: simcloud.Hold, Release: release, Reached: reached})
	go func() { done <- run() }()
	<-reached
	meanwhile()
	close(release)
	return <-done
}

func TestARevokeThatFindsTheRecordChangedLooksAgain(t *testing.T) {
	for mode := range tookAway {
		t.Run(string(mode), func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			n, old := r.published(r1)
			// Its workflow is reset meanwhile, and goes back.
			err := r.held(func() {
				if out, err := r.tryPromote(r1, old[0], n); err != nil || len(out.Lagging) > 0 {
					t.Errorf("%+v, %v", out, err)
				}
			}, func() error { return r.revokeKeeping(r1, mode, n, old...) })
			if !store.IsConflict(err) {
				t.Errorf("it goes on: %v", err)
			}
			if n := r.Cloud.Calls(simcloud.GoogleIAMService, tookAway[mode]); n > 0 {
				t.Error("what applications read was asked to go")
			}
			_ = r.fails(r.revokeKeeping(r1, mode, n, old...), fault.Rejected, activities.StillStaged)
		})
	}
}

func TestAPromoteThatFindsTheRecordChangedLooksAgain(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	n, old := r.published(r1)
	err := r.held(func() {
		if err := r.revoke(r1, activities.DeleteKey, old...); err != nil {
			t.Error(err)
		}
	}, func() error {
		_, err := r.tryPromote(r1, old[0], n)
		return err
	})
	_ = r.fails(err, fault.Unavailable, activities.RevokePending)
	if c := r.record(0).Current; c.KeyID != n.KeyID {
		t.Errorf("the key %s, which is asked to go, was made current", c.KeyID)
	}
}

func TestWhatIsDeletedToMakeWayIsWrittenDownToo(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	n := r.create(r1)
	r.unanswered(activities.DeleteKey, simcloud.DropBefore)
	_, err := r.tryCreate(r2)
	_ = r.fails(err, fault.Unavailable, "")
	// The rotation before it is reset, and finds what it had staged.
	if again := r.create(r1); again.KeyID != n.KeyID {
		t.Fatalf("another key was made: %s", again.KeyID)
	}
	if out := r.verify(r1, n); out.Wait <= 0 {
		t.Errorf("it is proven although it may yet go: %+v", out)
	}
}

func TestARequestThatWasHeldUpIsNotSent(t *testing.T) {
	for mode := range tookAway {
		t.Run(string(mode), func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			n, old := r.published(r1)
			err := r.held(func() { r.Advance(r.horizon()) }, func() error { return r.revokeKeeping(r1, mode, n, old...) })
			_ = r.fails(err, fault.Unavailable, "slow")
			if n := r.Cloud.Calls(simcloud.GoogleIAMService, tookAway[mode]); n > 0 {
				t.Error("it was sent when its entry in the record counted no more")
			}
		})
	}
}

func TestATimeInTheFutureHoldsNobodyUpLongerThanTheHorizon(t *testing.T) {
	const ahead = 24 * time.Hour // the clock is set back after the record was written
	revoked := func(r *fixture) {
		r.write(0, func(s *store.Snapshot) { s.Revokes = []store.Revoke{{KeyID: r.oldID, At: r.Now().Add(ahead)}} })
	}
	claimed := func(r *fixture) {
		r.write(0, func(s *store.Snapshot) {
			s.Claim = &store.Claim{Install: r.acts.Install, Rotation: r1, Attempt: 1, At: r.Now().Add(ahead)}
		})
	}
	var old []activities.Ref
	for sentence, c := range map[string]struct {
		given func(*fixture)
		wait  func(*fixture) rotation.Duration
	}{
		"before it is decided what is due": {revoked, func(r *fixture) rotation.Duration {
			p, err := r.prepare(r1, rotation.Manual)
			if err != nil {
				r.Fatal(err)
			}
			return p.Wait
		}},
		"before a key is minted": {claimed, func(r *fixture) rotation.Duration {
			out, err := r.tryCreate(r1)
			if err != nil {
				r.Fatal(err)
			}
			return out.Wait
		}},
		"before a key is made current again": {
			func(r *fixture) {
				_, old = r.published(r1)
				revoked(r)
			},
			func(r *fixture) rotation.Duration { return r.verify(r1, old[0]).Wait },
		},
		"before what was minted is swept": {
			func(r *fixture) {
				r.published(r1)
				claimed(r)
			},
			func(r *fixture) rotation.Duration {
				out, err := r.acts.Retire(context.Background(), activities.RetireInput{Target: r.target(r1)})
				if err != nil {
					r.Fatal(err)
				}
				return out.SweepIn
			},
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			c.given(r)
			if wait := c.wait(r); wait <= 0 || time.Duration(wait) > r.horizon()+time.Second {
				t.Errorf("it waits %v", wait)
			}
			r.Advance(r.horizon() + time.Second)
			if wait := c.wait(r); wait > 0 {
				t.Errorf("after the horizon it waits %v more", wait)
			}
		})
	}
}

func TestAnEmergencyDoesNotWaitForWhatItReplacesAnyway(t *testing.T) {
	for sentence, c := range map[string]struct {
		leaked func(r *fixture) []string
		waits  bool
	}{
		"everything leaked":             {leaked: func(*fixture) []string { return nil }},
		"what applications read leaked": {leaked: func(r *fixture) []string { return []string{r.oldID} }},
		"something else leaked":         {leaked: func(*fixture) []string { return []string{"0123456789ab"} }, waits: true},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			r.rules.MayDie = []string{r.oldID}
			p, err := r.prepare(r1, rotation.Emergency)
			if err != nil {
				t.Fatal(err)
			}
			r.unanswered(activities.DisableKey, simcloud.LoseReply)
			_, err = r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: p.Old, Mode: activities.DisableKey, Contain: true, Emergency: "ada"})
			_ = r.fails(err, fault.Unavailable, "")
			p, err = r.acts.Prepare(context.Background(), activities.PrepareInput{Target: r.target(r2), Reason: rotation.Emergency, StartedAt: r.begin, Leaked: c.leaked(r)})
			if r.note(p, err); err != nil || (p.Wait > 0) != c.waits {
				t.Errorf("it waits %v, %v", p.Wait, err)
			}
		})
	}
}

func TestContainmentDoesNotStopAtARecordThatCannotBeWritten(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	r.rules.MayDie = []string{r.oldID}
	p, err := r.prepare(r1, rotation.Emergency)
	if err != nil {
		t.Fatal(err)
	}
	r.Cloud.Inject(simcloud.Fault{Service: simcloud.SecretManagerService, Method: "UpdateSecret", Kind: simcloud.Refuse, Code: 403})
	if _, err = r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: p.Old, Mode: activities.DisableKey, Contain: true, Emergency: "ada"}); err != nil {
		t.Error(err)
	}
	if n := r.Cloud.Calls(simcloud.GoogleIAMService, tookAway[activities.DisableKey]); n != 1 {
		t.Errorf("what leaked was asked to go %d times", n)
	}
}
