package workflows_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

const day = 24 * time.Hour

func TestARotationReplacesTheKeyInEveryStore(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	begin := r.env.Now()
	res := r.run()
	r.replaced(res)
	if took := res.EndedAt.Sub(begin); took < 48*time.Hour {
		t.Errorf("it took %s: the grace period of 48h was cut short", took)
	}
	if len(res.Revoked) != 1 || res.Revoked[0] != r.oldID {
		t.Errorf("revoked %v, want %s", res.Revoked, r.oldID)
	}
}

func TestTheOldKeyWorksThroughGraceAndIsDisabledBeforeItIsDeleted(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.after(47*time.Hour, func() {
		if s := r.status(); s.Phase != rotation.Grace || !r.live(r.oldID) {
			t.Errorf("an hour before the end of grace the phase is %s, and the old key exists: %v", s.Phase, r.live(r.oldID))
		}
	})
	r.run()
	var kinds []string
	for _, e := range r.Cloud.Journal() {
		if e.KeyID == r.oldID && (e.Kind == simcloud.KeyDisabled || e.Kind == simcloud.KeyDeleted) {
			kinds = append(kinds, string(e.Kind))
		}
	}
	if got := strings.Join(kinds, ", "); got != "key disabled, key deleted" {
		t.Errorf("the old key was: %s", got)
	}
}

func TestAManualRotationWaitsForAPersonTwice(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	var newID string
	r.after(time.Hour, func() {
		if s := r.status(); s.Phase != rotation.AwaitingKey {
			t.Errorf("phase %s, want awaiting-key", s.Phase)
		}
		newID = r.supply()
	})
	r.after(50*time.Hour, func() {
		if s := r.status(); s.Phase != rotation.AwaitingRevocation {
			t.Errorf("phase %s, want awaiting-revocation", s.Phase)
		}
		if err := r.OpenAI.DeleteKey(r.oldID); err != nil {
			t.Error(err)
		}
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	res := r.run()
	r.replaced(res)
	if r.published() != newID {
		t.Error("applications do not read the key that the person made")
	}
}

// Every message arrives while an activity runs; it must act between steps, and the end depends on how far the
// rotation was.
func TestARollBackDuringAnyStepEndsAsTheDiagramSays(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		during string
		policy []string
		back   bool
	}{
		"before anything was done, nothing is done":    {during: "Prepare", back: true},
		"during create the minted key is discarded":    {during: "Create", back: true},
		"during store the staged values are discarded": {during: "Store", back: true},
		"during verify the new key is discarded":       {during: "Verify", back: true},
		"during promote the rotation goes in reverse":  {during: "Promote", back: true},
		"during a health check it goes in reverse":     {during: "CheckHealth", back: true},
		"during guard it goes in reverse":              {during: "Guard", back: true},
		"while the old key is disabled it is enabled":  {during: "Revoke", back: true},
		"while the old key is deleted there is no way": {during: "Revoke", policy: []string{quick}},
		"during confirm there is no way back":          {during: "Confirm", policy: []string{quick}},
		"during retire there is no way back":           {during: "Retire", policy: []string{quick}},
	}
	for _, how := range []string{"a signal", "an update", "a cancel"} {
		t.Run(how, func(t *testing.T) {
			for name, tc := range cases {
				t.Run(name, func(t *testing.T) {
					r := newFixture(t, bothStores().policy(tc.policy...))
					r.whenStarted(tc.during, func() {
						switch how {
						case "a signal":
							r.signal(rotation.RollBack, rotation.DecisionMessage{})
						case "a cancel":
							r.env.CancelWorkflow()
						default:
							r.env.UpdateWorkflow(string(rotation.RollBack), "u1", &answer{refused: !tc.back, T: t}, rotation.DecisionMessage{By: "operator", Why: "test"})
						}
					})
					res := r.run()
					if tc.back {
						r.unchanged(res)
					} else {
						r.replaced(res)
					}
				})
			}
		})
	}
}

// answer checks whether an Update was refused.
type answer struct {
	*testing.T
	refused bool
}

func (a *answer) Accept() {
	if a.refused {
		a.Error("the update was accepted")
	}
}

func (a *answer) Reject(err error) {
	if !a.refused {
		a.Errorf("the update was refused: %v", err)
	}
}

func (a *answer) Complete(_ any, err error) {
	if err != nil {
		a.Errorf("the update failed: %v", err)
	}
}

func TestARollBackInGraceKeepsBothKeysForAnotherGracePeriod(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores().policy(quick))
	r.after(day, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	r.after(day+47*time.Hour, func() {
		if s := r.status(); s.Phase != rotation.RollingBack {
			t.Errorf("phase %s, want rolling-back", s.Phase)
		}
		if len(r.Cloud.LiveKeys()) != 2 {
			t.Errorf("keys %v: those who read the new one still need it", r.Cloud.LiveKeys())
		}
	})
	r.unchanged(r.run())
}

func TestPeopleDecideAboutTheGracePeriod(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		decide      func(*fixture)
		least, most time.Duration
	}{
		"an extension keeps both keys longer": {
			func(r *fixture) {
				r.after(day, func() {
					r.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "o", Why: "w", For: rotation.Duration(day)})
				})
			},
			3 * day, 3*day + time.Hour,
		},
		"an extension ends at the cap of the policy": {
			func(r *fixture) {
				r.after(day, func() {
					r.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "o", Why: "w", For: rotation.Duration(90 * day)})
				})
			},
			9 * day, 9*day + time.Hour,
		},
		"finish ends it at once": {
			func(r *fixture) {
				r.after(time.Hour, func() { r.signal(rotation.FinishGrace, rotation.DecisionMessage{}) })
			},
			time.Hour, time.Hour + 10*time.Minute,
		},
		"the same message twice counts once": {
			func(r *fixture) {
				for _, at := range []time.Duration{day, day + time.Minute} {
					r.after(at, func() {
						r.signal(rotation.ExtendGrace, rotation.DecisionMessage{ID: "one", By: "o", Why: "w", For: rotation.Duration(day)})
					})
				}
			},
			3 * day, 3*day + time.Hour,
		},
		"messages for another phase change nothing": {
			func(r *fixture) {
				for _, k := range []rotation.DecisionKind{rotation.Approve, rotation.Reject, rotation.KeySupplied, rotation.KeyRevoked} {
					r.after(day, func() { r.signal(k, rotation.DecisionMessage{}) })
				}
			},
			2 * day, 2*day + time.Hour,
		},
		"a signal that nobody can read is answered in the details": {
			func(r *fixture) {
				r.after(day, func() { r.env.SignalWorkflow(string(rotation.FinishGrace), []int{1}) })
				r.after(day+time.Minute, func() {
					if d := r.status().Details; !strings.Contains(d, "could not be read") {
						r.Errorf("the details say nothing: %s", d)
					}
				})
			},
			2 * day, 2*day + time.Hour,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, bothStores().policy(quick))
			begin := r.env.Now()
			tc.decide(r)
			res := r.run()
			r.replaced(res)
			if took := res.EndedAt.Sub(begin); took < tc.least || took > tc.most {
				t.Errorf("it took %s, want %s to %s", took, tc.least, tc.most)
			}
		})
	}
}

func TestAPersonApprovesTheRevokeWhenThePolicySaysSo(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"because every revoke is approved":    "approve: true",
		"because use of the old key is known": "unknown_use: approve",
	} {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, bothStores().policy(quick, policy))
			r.after(3*day, func() {
				if s := r.status(); s.Phase != rotation.AwaitingApproval || !r.live(r.oldID) {
					t.Errorf("phase %s, and the old key exists: %v", s.Phase, r.live(r.oldID))
				}
				r.signal(rotation.Approve, rotation.DecisionMessage{})
			})
			r.replaced(r.run())
		})
		t.Run(name+", and rejects it", func(t *testing.T) {
			r := newFixture(t, bothStores().policy(quick, policy))
			r.after(3*day, func() { r.signal(rotation.Reject, rotation.DecisionMessage{}) })
			// The reverse asks again before it takes the new key away.
			r.after(6*day, func() { r.signal(rotation.Approve, rotation.DecisionMessage{}) })
			r.unchanged(r.run())
		})
	}
}

func TestADeadlineThatPassesRollsBack(t *testing.T) {
	t.Parallel()
	t.Run("when nobody supplies a key", func(t *testing.T) {
		r := newFixture(t, manualKey().policy("patience: 3d"))
		begin := r.env.Now()
		res := r.run()
		r.unchanged(res)
		if took := res.EndedAt.Sub(begin); took < 3*day || took > 3*day+time.Hour {
			t.Errorf("it took %s", took)
		}
	})
	t.Run("when nobody approves", func(t *testing.T) {
		r := newFixture(t, bothStores().policy(quick, "approve: true", "patience: 3d"))
		r.after(8*day, func() { r.signal(rotation.Approve, rotation.DecisionMessage{}) }) // of the reverse
		r.unchanged(r.run())
	})
}

func TestARevocationThatNobodyMakesIsOverdueAndNeverForgotten(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey().policy("patience: 3d"))
	r.after(time.Hour, func() { r.supply() })
	r.after(30*day, func() {
		if s := r.status(); s.Phase != rotation.AwaitingRevocation || !s.Overdue || !strings.Contains(s.Details, "Overdue") {
			t.Errorf("got %+v", s)
		}
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.replaced(r.run())
}

func TestARevocationThatIsClaimedAndDidNotHappenIsFoundOut(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	r.after(time.Hour, func() { r.supply() })
	r.after(3*day, func() { r.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
	r.after(4*day, func() {
		if s := r.status(); s.Phase != rotation.AwaitingRevocation || !strings.Contains(s.Details, "still accepts") {
			t.Errorf("got %+v", s)
		}
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.replaced(r.run())
}

func TestASuppliedKeyThatCannotBeUsedIsAnsweredAndAnotherOneTaken(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		supply func(*fixture) string
		want   string
	}{
		"a version that does not exist": {func(*fixture) string { return "99" }, "no readable version 99"},
		"the version that is current":   {func(*fixture) string { return "1" }, "what applications read now"},
		"nothing at all":                {func(*fixture) string { return "" }, "holds no new version"},
		"a key of another project": {func(r *fixture) string {
			_, v := r.OpenAI.CreateKey("proj_other", "x")
			n, err := r.SM.AddVersion("gpt", v)
			if err != nil {
				r.Error(err)
			}
			return itoa(n)
		}, "not of proj_gpt"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, manualKey())
			r.after(time.Hour, func() {
				r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "operator", Version: tc.supply(r)})
			})
			r.after(2*time.Hour, func() {
				if s := r.status(); s.Phase != rotation.AwaitingKey || !strings.Contains(s.Details, tc.want) {
					t.Errorf("phase %s; want %q in\n%s", s.Phase, tc.want, s.Details)
				}
				r.supply()
			})
			r.after(5*day, func() {
				_ = r.OpenAI.DeleteKey(r.oldID)
				r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			r.replaced(r.run())
		})
	}
}

func TestTheFailuresOfTheFieldLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	t.Run("a new key that is refused is rolled back", func(t *testing.T) {
		r := newFixture(t, bothStores())
		r.Cloud.SetTiming(simcloud.Timing{Propagation: 100 * day})
		res := r.run()
		r.unchanged(res)
		if !strings.Contains(res.Outcome, "did not pass") {
			t.Errorf("outcome %q", res.Outcome)
		}
	})
	t.Run("a new key that takes a minute is waited for", func(t *testing.T) {
		r := newFixture(t, bothStores())
		r.Cloud.SetTiming(simcloud.Timing{Propagation: 50 * time.Second})
		r.replaced(r.run())
	})
	t.Run("an old key that died before its time is replaced at once", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.in.Reason = rotation.Scheduled
		if err := r.OpenAI.DeleteKey(r.oldID); err != nil {
			t.Fatal(err)
		}
		r.rules.MayDie = []string{r.oldID}
		begin := r.env.Now()
		r.after(time.Minute, func() { r.supply() })
		r.after(2*time.Minute, func() { r.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
		res := r.run()
		r.replaced(res)
		if took := res.EndedAt.Sub(begin); took > time.Hour {
			t.Errorf("it took %s: nobody needs a grace period for a dead key", took)
		}
	})
	t.Run("grace begins when the last reader sees the new value", func(t *testing.T) {
		r := newFixture(t, bothStores().policy(quick))
		r.Cloud.SetTiming(simcloud.Timing{AliasLag: 5 * time.Hour})
		begin := r.env.Now()
		res := r.run()
		r.replaced(res)
		if took := res.EndedAt.Sub(begin); took < 53*time.Hour {
			t.Errorf("it took %s: grace began before applications could read the new key", took)
		}
	})
	t.Run("while a store is down nothing is minted", func(t *testing.T) {
		r := newFixture(t, bothStores())
		heal := r.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Kind: simcloud.Refuse, Code: 503})
		r.after(time.Hour, func() {
			if len(r.Cloud.LiveKeys()) != 1 {
				t.Errorf("keys %v", r.Cloud.LiveKeys())
			}
			if s := r.status(); !strings.Contains(s.Details, "**Blocked:**") {
				t.Errorf("the details say nothing:\n%s", s.Details)
			}
			heal()
		})
		r.replaced(r.run())
	})
	t.Run("a promote that fails on the second store goes on when it is back", func(t *testing.T) {
		r := newFixture(t, bothStores())
		var heal func()
		r.whenStarted("Promote", func() {
			heal = r.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "AddSecretVersion", Target: "ci-latest", Kind: simcloud.Refuse, Code: 503})
		})
		r.after(2*time.Hour, func() {
			if ids := r.Cloud.PublishedKeys(); ids[scenario.Path(scenario.Alias, "ci")] == ids[scenario.Path(scenario.Latest, "ci")] {
				t.Error("the stores agree; the test proves nothing")
			}
			heal()
		})
		r.replaced(r.run())
	})
	t.Run("a promote that cannot finish is taken back when a person says so", func(t *testing.T) {
		r := newFixture(t, bothStores())
		r.whenStarted("Promote", func() {
			r.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "AddSecretVersion", Target: "ci-latest", Kind: simcloud.Refuse, Code: 503})
		})
		r.after(2*time.Hour, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
		r.unchanged(r.run())
	})
	t.Run("a new key that dies in grace while the old one lives is rolled back", func(t *testing.T) {
		r := newFixture(t, manualKey())
		var id string
		r.after(time.Hour, func() { id = r.supply() })
		r.after(5*time.Hour, func() {
			r.rules.MayDie = []string{id}
			_ = r.OpenAI.DeleteKey(id)
		})
		r.after(4*day, func() { r.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) }) // of the new key, in reverse
		res := r.run()
		r.unchanged(res)
		if !strings.Contains(res.Outcome, "refused 3 times") {
			t.Errorf("outcome %q", res.Outcome)
		}
	})
}

func TestAMintWithoutAnAnswerLeavesNoOrphan(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]simcloud.FaultKind{
		"when the reply is lost after the key was made": simcloud.LoseReply,
		"when the connection broke before":              simcloud.DropBefore,
	} {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, bothStores())
			r.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Times: 2, Kind: kind})
			r.replaced(r.run())
		})
	}
	t.Run("when Google makes the keys, nobody can prove whose it is: a person is asked", func(t *testing.T) {
		s := bothStores()
		s.opts.Mode = "create"
		r := newFixture(t, s)
		r.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "CreateServiceAccountKey", Times: 1, Kind: simcloud.LoseReply})
		r.after(time.Hour, func() {
			st := r.status()
			if st.Phase != rotation.AwaitingApproval || !strings.Contains(st.Details, "cannot be proven") {
				t.Errorf("phase %s\n%s", st.Phase, st.Details)
			}
			r.signal(rotation.Approve, rotation.DecisionMessage{})
		})
		res := r.run()
		r.replaced(res)
		// The key that nobody could prove is still there: the person said that they had seen to it, and had not.
		if n := len(r.Cloud.LiveKeys()); n != 2 {
			t.Errorf("%d keys, want the new one and the unproven one", n)
		}
	})
}

func TestAnEmergencyHasNoGraceAndNoWayBack(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.in.Reason = rotation.Emergency
	begin := r.env.Now()
	r.whenStarted("Promote", func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	res := r.run()
	if res.EndedAt.Sub(begin) > 10*time.Minute {
		t.Errorf("it took %s", res.EndedAt.Sub(begin))
	}
	if res.Phase == rotation.Completed {
		r.replaced(res)
	}
}

func TestAKeyThatIsNotDueIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.in.Reason = rotation.Scheduled
	res := r.run()
	if !res.NotDue || res.Phase != rotation.Completed || len(r.Cloud.LiveKeys()) != 1 {
		t.Errorf("got %+v", res)
	}
}
