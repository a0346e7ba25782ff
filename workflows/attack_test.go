package workflows_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/lockstep"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/rotation/signed"
	"github.com/rekeyhq/rekey/workflows"
)

// steady is a rotation in a world in which all goes well but what a test says.
func steady(t *testing.T, change ...func(*chaos)) *chaos {
	t.Helper()
	f := lockstep.New(t, func(r worker.WorkflowRegistry) {
		workflows.RegisterRotation(r)
	}, lockstep.Options{})
	p := rotation.Preset(rotation.Production1)
	c := &chaos{T: t, Rand: rand.New(rand.NewPCG(1, 7)), f: f,
		key: rotation.Key{Name: "demo", Provider: "google", Account: "demo@example.com", Tier: rotation.Production1, Policy: p,
			Stores: []rotation.Location{{Store: "local", Path: "demo"}}},
		prepared: activities.Prepared{CanDisable: true, Propagation: rotation.Duration(time.Minute), RevocationLag: rotation.Duration(time.Minute), Horizon: rotation.Duration(time.Minute)},
	}
	for _, one := range change {
		one(c)
	}
	c.run = f.Start("RotateKey", lockstep.StartOptions{ID: workflows.ID("demo"), SearchAttributes: workflows.StartAttributes(c.key, rotation.Manual)},
		workflows.Input{Key: c.key, Reason: rotation.Manual, By: "test"})
	c.must(c.task())
	return c
}

func (c *chaos) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%v\n%s", err, strings.Join(c.log, "\n"))
	}
}

// toActivity lets all go well until an activity of that name has begun.
func (c *chaos) toActivity(name string) lockstep.Activity {
	c.Helper()
	for range 100 {
		for _, a := range c.run.Pending().Activities {
			if a.Type == name {
				return a
			}
		}
		c.on()
	}
	c.Fatalf("%s did not begin:\n%s", name, strings.Join(c.log, "\n"))
	return lockstep.Activity{}
}

// on lets all that is under way go well, or the next timer fire.
func (c *chaos) on() {
	c.Helper()
	open := c.run.Pending()
	for _, child := range open.Children {
		if !child.Started {
			c.run.StartChild(child.ID)
		}
	}
	for _, a := range open.Activities {
		c.run.Wait(time.Second)
		c.run.CompleteActivity(a.ID, c.result(a, true))
	}
	if !c.run.Ready() {
		timer, ok := c.run.NextTimer()
		if !ok {
			s, _ := c.status()
			c.Fatalf("it waits for nothing:\n%s", s.Details)
		}
		c.run.Advance(latest(timer.FireAt, c.run.Now()))
	}
	c.must(c.task())
}

// end lets all go well to the end.
func (c *chaos) end() (res rotation.Result) {
	c.Helper()
	for n := 0; !c.run.Closed(); n++ {
		if n > 200 {
			s, _ := c.status()
			c.Fatalf("it does not come to its end:\n%s", s.Details)
		}
		c.on()
	}
	c.must(c.run.Result(&res))
	return res
}

// signal sends a signal, and sees what comes of it.
func (c *chaos) signal(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	c.Helper()
	if m.By == "" {
		m.By, m.Why = "ana", "the test says so"
	}
	c.run.Signal(string(kind), m)
	c.must(c.task())
}

// fails ends an activity badly.
func (c *chaos) fails(a lockstep.Activity, class fault.Class, f activities.Failure) {
	c.Helper()
	c.run.FailActivity(a.ID, temporal.NewApplicationErrorWithOptions("The test says no.", string(class), temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{f}}))
	c.must(c.task())
}

func byHand(c *chaos)      { c.prepared.SupplyByHand, c.prepared.RevokeByHand = true, true }
func withChannel(c *chaos) { c.key.Policy.Notify = []rotation.Channel{{Name: "team"}} }
func noChannel(*chaos)     {}
func twoSign(c *chaos) {
	for _, name := range []string{"alice", "bob"} {
		c.operators = append(c.operators, rotation.Operator{Name: name, Key: signed.Line(sshKey(c.T, name).PublicKey())})
	}
}

// A deadline that comes while the rotation polls, or is blocked, in the middle of a wait for a person.
func TestADeadlineThatComesWhileARotationPollsRollsBackOnce(t *testing.T) {
	t.Parallel()
	for sentence, channels := range map[string]func(*chaos){"with a channel": withChannel, "without a channel": noChannel} {
		t.Run("a supplied key cannot be checked for days, "+sentence, func(t *testing.T) {
			c := steady(t, byHand, channels)
			c.on()
			c.signal(rotation.KeySupplied, rotation.DecisionMessage{})
			c.fails(c.toActivity("Adopt"), fault.Throttled, activities.Failure{RetryAfter: rotation.Duration(30 * 24 * time.Hour)})
			c.rolledBackInTime()
		})
		t.Run("a supplied key cannot be checked, again and again, "+sentence, func(t *testing.T) {
			c := steady(t, byHand, channels)
			c.on()
			c.signal(rotation.KeySupplied, rotation.DecisionMessage{})
			c.fails(c.toActivity("Adopt"), fault.Unavailable, activities.Failure{})
			for c.run.Now().Before(lockstep.DefaultStart.Add(time.Duration(c.key.Policy.Patience))) {
				for _, a := range c.run.Pending().Activities {
					if a.Type == "Notify" {
						c.run.CompleteActivity(a.ID, nil)
					}
				}
				if timer, ok := c.run.NextTimer(); ok && !c.run.Ready() {
					c.run.Advance(timer.FireAt)
				}
				c.must(c.task())
			}
			c.run.CancelActivity(c.toActivity("Adopt").ID)
			c.must(c.task())
			c.rolledBackInTime()
		})
		t.Run("nobody can read who may sign, "+sentence, func(t *testing.T) {
			c := steady(t, twoSign, channels)
			c.toActivity("Guard")
			asked := c.run.Now()
			for !c.run.Closed() && c.run.Now().Before(asked.Add(9*24*time.Hour)) {
				for _, a := range c.run.Pending().Activities {
					if a.Type == "Signers" {
						c.fails(a, fault.Rejected, activities.Failure{})
					}
				}
				if s, err := c.status(); err != nil || s.Phase == rotation.RollingBack {
					return
				}
				c.on()
			}
			s, _ := c.status()
			t.Errorf("it did not roll back at the deadline:\n%s", s.Details)
		})
	}
}

func (c *chaos) rolledBackInTime() {
	c.Helper()
	res := c.end()
	if limit := lockstep.DefaultStart.Add(time.Duration(c.key.Policy.Patience) + time.Hour); res.Phase != rotation.RolledBack || c.run.Now().After(limit) {
		c.Errorf("it ended as %s at %s: %s", res.Phase, c.run.Now(), res.Outcome)
	}
}

// leaves makes the rotation go on in a new run with the next workflow task, and returns that run before its first task.
func (c *chaos) leaves() {
	c.Helper()
	c.run.SuggestContinueAsNewAfter(1)
	if _, err := c.run.Task(); err != nil {
		c.Fatal(err)
	}
	if c.run.Continued() == nil {
		c.Fatalf("it did not leave; it waits for %s", c.run.Pending())
	}
	c.run = c.run.Continued()
	c.run.SuggestContinueAsNewAfter(0)
}

func TestARollBackIsHeardBetweenTwoRuns(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"Prepare", "Create", "Verify", "Promote", "CheckHealth", "Guard", "Revoke", "Confirm"} {
		t.Run("behind "+step, func(t *testing.T) {
			c := steady(t)
			a := c.toActivity(step)
			c.run.CompleteActivity(a.ID, c.result(a, true))
			c.leaves()
			c.signal(rotation.RollBack, rotation.DecisionMessage{})
			want := rotation.RolledBack
			if step == "Confirm" {
				want = rotation.Completed // there is no way back
			}
			if res := c.end(); res.Phase != want {
				t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
			}
		})
	}
}

// C4, where a question comes in between.
func TestASecondKeyThatIsSuppliedWhileTheFirstIsAskedAboutCounts(t *testing.T) {
	t.Parallel()
	c := steady(t, byHand)
	c.on()
	c.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "ana", Version: "7"})
	first := c.toActivity("Adopt")
	c.run.CompleteActivity(first.ID, activities.Adopted{Question: &rotation.Ask{Kind: activities.ForeignClaim, About: []string{"local:demo", "other"}, Text: "Whose is it?"}})
	c.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "ana", Version: "8"})
	if s, _ := c.status(); s.Phase == rotation.AwaitingApproval {
		c.signal(rotation.Approve, rotation.DecisionMessage{})
	}
	var in activities.AdoptInput
	if err := c.toActivity("Adopt").Decode(&in); err != nil || in.Version != "8" {
		t.Errorf("version %q is adopted, and not the one that was supplied last: %v", in.Version, err)
	}
}

// everything is an emergency in which all that was made before has leaked.
var everything = rotation.DecisionMessage{By: "responder", Why: "leaked"}

func TestWhatAStepFoundIsNotForgottenWhenAnEmergencyOvertakesIt(t *testing.T) {
	t.Parallel()
	t.Run("a key that was supplied", func(t *testing.T) {
		for sentence, overtaken := range map[string]func(*chaos){
			"while it is checked": func(c *chaos) { c.toActivity("Adopt") },
			"while it is discarded": func(c *chaos) {
				c.toActivity("Verify")
				c.signal(rotation.RollBack, rotation.DecisionMessage{})
				c.toActivity("Discard")
			},
			"while it is published": func(c *chaos) { c.toActivity("Promote") },
		} {
			t.Run(sentence, func(t *testing.T) {
				c := steady(t, byHand)
				c.on()
				c.signal(rotation.KeySupplied, rotation.DecisionMessage{})
				overtaken(c)
				c.run.Signal(string(rotation.RaiseEmergency), rotation.DecisionMessage{By: "responder", Why: "leaked", Leaked: []string{"something else"}})
				a := c.run.Pending().Activities[0]
				c.run.CompleteActivity(a.ID, c.result(a, true))
				c.must(c.task())
				c.toActivity("Prepare")
				if s := c.leftTo(); !strings.Contains(s, "The supplied key 000000000003 ") {
					t.Errorf("there is no follow-up about the supplied key: %s", s)
				}
			})
		}
	})
	t.Run("a key that is revoked", func(t *testing.T) {
		c := steady(t)
		a := c.toActivity("Confirm")
		c.run.Signal(string(rotation.RaiseEmergency), everything)
		c.run.CompleteActivity(a.ID, activities.Confirmed{})
		c.must(c.task())
		var in activities.PrepareInput
		if err := c.toActivity("Prepare").Decode(&in); err != nil || len(in.Revoked) != 2 {
			t.Errorf("the rotation that follows takes %v for revoked: %v", in.Revoked, err)
		}
	})
	t.Run("what was left to a person", func(t *testing.T) {
		c := steady(t)
		a := c.toActivity("Retire")
		c.run.Signal(string(rotation.RaiseEmergency), everything)
		c.run.CompleteActivity(a.ID, activities.Retired{FollowUps: []string{"Look at key9."}})
		c.must(c.task())
		if s := c.leftTo(); !strings.Contains(s, "Look at key9.") {
			t.Errorf("there is no follow-up: %s", s)
		}
	})
}

func TestOfSeveralEmergenciesThatAnotherRotationServesNoneIsDropped(t *testing.T) {
	t.Parallel()
	leak := func(id string) rotation.DecisionMessage {
		return rotation.DecisionMessage{ID: id, By: "responder", Why: "leaked", Leaked: []string{"value-" + id}}
	}
	for sentence, send := range map[string]func(*chaos){
		"one after the other": func(c *chaos) {
			c.signal(rotation.RaiseEmergency, leak("1"))
			c.signal(rotation.RaiseEmergency, leak("2"))
			c.on()
		},
		"both at once": func(c *chaos) {
			c.run.Signal(string(rotation.RaiseEmergency), leak("1"))
			c.run.Signal(string(rotation.RaiseEmergency), leak("2"))
			c.on()
		},
		"the second with the answer of the step": func(c *chaos) {
			c.signal(rotation.RaiseEmergency, leak("1"))
			c.run.Signal(string(rotation.RaiseEmergency), leak("2"))
			c.on()
		},
		"the second while the rotation that follows is begun": func(c *chaos) {
			c.signal(rotation.RaiseEmergency, leak("1"))
			c.run.Meanwhile(func() { c.run.Signal(string(rotation.RaiseEmergency), leak("2")) })
			c.on()
		},
		"the second when the one that follows looks": func(c *chaos) {
			c.signal(rotation.RaiseEmergency, leak("1"))
			c.toActivity("Prepare")
			c.signal(rotation.RaiseEmergency, leak("2"))
			c.on()
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			c := steady(t)
			c.toActivity("Create")
			send(c)
			var in activities.PrepareInput
			c.must(c.toActivity("Prepare").Decode(&in))
			if want := []string{"value-1", "value-2"}; !slices.Equal(slices.Sorted(slices.Values(in.Leaked)), want) {
				t.Errorf("the rotation that follows takes %v for leaked, want %v", in.Leaked, want)
			}
			if res := c.end(); res.Phase != rotation.Completed || res.Reason != rotation.Emergency {
				t.Errorf("it ended as %s, for reason %s", res.Phase, res.Reason)
			}
		})
	}
	t.Run("nor the one that the rotation before had taken upon itself", func(t *testing.T) {
		c := steady(t)
		c.toActivity("Prepare")
		c.signal(rotation.RaiseEmergency, leak("1"))
		c.toActivity("Create")
		c.signal(rotation.RaiseEmergency, leak("2"))
		c.on()
		var in activities.PrepareInput
		c.must(c.toActivity("Prepare").Decode(&in))
		if want := []string{"value-1", "value-2"}; !slices.Equal(in.Leaked, want) {
			t.Errorf("the rotation that follows takes %v for leaked, want %v", in.Leaked, want)
		}
	})
}

// leftTo is what a rotation that follows in the same workflow has to leave to a person.
func (c *chaos) leftTo() string {
	c.Helper()
	var in workflows.Input
	if err := converter.GetDefaultDataConverter().FromPayloads(c.run.History().GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetInput(), &in); err != nil {
		c.Fatal(err)
	}
	if in.Carry == nil {
		c.Fatal("no rotation follows")
	}
	return strings.Join(in.Carry.FollowUps, "\n")
}

// Temporal ends a workflow whose input, memo or result is longer than 2 MB.
func TestWhatPeopleSendDoesNotMakeARotationTooLongForTemporal(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	c := steady(t)
	c.toActivity("CheckHealth")
	for i := range 2500 {
		c.run.Signal(string(rotation.AddNote), rotation.DecisionMessage{By: "ana", Why: strings.Repeat("a note. ", 60) + fmt.Sprint(i)})
		if i%50 == 0 {
			c.run.Signal(string(rotation.ExtendGrace), rotation.DecisionMessage{ID: fmt.Sprint(i), By: "ana", Why: strings.Repeat("all that I know. ", 800), For: rotation.Duration(time.Minute)})
			c.run.Signal(string(rotation.Approve), []byte("sk-"+strings.Repeat("x", 20)+fmt.Sprint(i)))
			c.run.Wait(time.Minute)
			c.must(c.task())
		}
	}
	for i := range 20 {
		c.signal(rotation.RaiseEmergency, rotation.DecisionMessage{ID: fmt.Sprint("e", i), By: "ana", Why: strings.Repeat("it leaked. ", 1_000), Leaked: []string{"key1"}})
	}
	a := c.run.Pending().Activities[0]
	c.run.CompleteActivity(a.ID, c.result(a, true))
	c.leaves()
	if size := proto.Size(c.run.History().GetEvents()[0]); size > most {
		t.Errorf("the next run begins with %d bytes", size)
	}
	c.must(c.task())
	if res := c.end(); len(res.Decisions) == 0 || res.Decisions[len(res.Decisions)-1].Kind != rotation.RaiseEmergency {
		t.Errorf("the latest decisions are forgotten: %d", len(res.Decisions))
	}
	for _, e := range c.run.History().GetEvents() {
		if size := proto.Size(e); size > most {
			t.Errorf("%s has %d bytes", e.GetEventType(), size)
		}
	}
}

func TestWhoeverBecomesAnOperatorWhileAQuestionIsOpenCanSign(t *testing.T) {
	t.Parallel()
	c := steady(t, twoSign, noDeadline)
	c.toActivity("Guard")
	c.days(10) // past the deadline
	c.operators = nil
	for _, name := range []string{"carol", "dave"} {
		c.operators = append(c.operators, rotation.Operator{Name: name, Key: signed.Line(sshKey(t, name).PublicKey())})
	}
	c.days(2)
	for range c.operators {
		s, err := c.status()
		c.must(err)
		c.send(rotation.Approve, rotation.DecisionMessage{Why: "yes"}, s)
		c.must(c.task())
	}
	if res := c.end(); res.Phase != rotation.Completed {
		t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
	}
}

// noDeadline keeps an old key for ever rather than decide.
func noDeadline(c *chaos) { c.key.Policy.UnknownUse = rotation.UnknownNever }

// days lets days pass in which all goes well.
func (c *chaos) days(n int) {
	c.Helper()
	for until := c.run.Now().Add(time.Duration(n) * 24 * time.Hour); c.run.Now().Before(until); {
		if timer, ok := c.run.NextTimer(); !c.run.Ready() && len(c.run.Pending().Activities) == 0 && (!ok || timer.FireAt.After(until)) {
			c.run.Wait(until.Sub(c.run.Now()))
			return
		}
		c.on()
	}
}

func TestAQuestionThatCannotBeCountedCanBeAnsweredWithMoreGrace(t *testing.T) {
	t.Parallel()
	c := steady(t, twoSign, noDeadline)
	c.toActivity("Guard")
	c.on()
	for range 8 {
		c.fails(c.toActivity("Signers"), fault.Rejected, activities.Failure{})
	}
	c.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "ana", Why: "who may sign?", For: rotation.Duration(3 * time.Hour)})
	if s, _ := c.status(); s.Phase != rotation.Grace {
		t.Errorf("grace did not begin again:\n%s", s.Details)
	}
}

// A provider that asks for a pause has said nothing about the key.
func TestAKeyHasItsTimeToBecomeKnownAlsoAfterAPause(t *testing.T) {
	t.Parallel()
	pause := activities.Failure{RetryAfter: rotation.Duration(2 * time.Minute)}
	for step, not := range map[string]any{
		"Verify": activities.Verified{Why: "It is refused."}, "Confirm": activities.Confirmed{Accepted: []string{"key1"}},
	} {
		t.Run(step, func(t *testing.T) {
			c := steady(t)
			c.fails(c.toActivity(step), fault.Throttled, pause)
			c.run.CompleteActivity(c.toActivity(step).ID, not)
			c.must(c.task())
			if s, _ := c.status(); s.Phase != rotation.Verify && s.Phase != rotation.Confirm {
				t.Errorf("it gave up at once:\n%s", s.Details)
			}
			if res := c.end(); res.Phase != rotation.Completed {
				t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
			}
		})
	}
}

func TestNothingIsExtendedPastItsEnd(t *testing.T) {
	t.Parallel()
	c := steady(t, twoSign, noDeadline)
	c.toActivity("Guard")
	c.days(60)
	before, err := c.status()
	c.must(err)
	for _, kind := range []rotation.DecisionKind{rotation.ExtendDeadline, rotation.ExtendGrace} {
		u := c.run.Update(string(kind), "", rotation.DecisionMessage{By: "ana", Why: "more", For: rotation.Duration(time.Hour)})
		if c.must(c.task()); u.State != lockstep.Rejected {
			t.Errorf("%s is taken two months later, and changes nothing", kind)
		}
	}
	if now, _ := c.status(); !now.Deadline.Equal(before.Deadline) {
		t.Errorf("the deadline moved from %s to %s", before.Deadline, now.Deadline)
	}
}

func TestAnOldKeyThatAPersonHasEnabledIsProvenAndUsed(t *testing.T) {
	t.Parallel()
	c := steady(t)
	c.toActivity("Revoke")
	c.signal(rotation.RollBack, rotation.DecisionMessage{})
	c.on()
	c.fails(c.toActivity("Revoke"), fault.Rejected, activities.Failure{})
	c.signal(rotation.Approve, rotation.DecisionMessage{By: "ana", Why: "enabled by hand"})
	c.fails(c.toActivity("Revoke"), fault.Rejected, activities.Failure{})
	if s, _ := c.status(); slices.Contains(s.Accepts, rotation.Approve) {
		t.Errorf("it asks again what was answered:\n%s", s.Details)
	}
	var in activities.VerifyInput
	if err := c.toActivity("Verify").Decode(&in); err != nil || in.Value.Fingerprint != "000000000001" {
		t.Errorf("%s is proven: %v", in.Value.Fingerprint, err)
	}
	if res := c.end(); res.Phase != rotation.RolledBack {
		t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
	}
}

func TestAMessageThatWasKeptAndNeverAskedForIsNotForgotten(t *testing.T) {
	t.Parallel()
	t.Run("a key for a provider that makes keys itself", func(t *testing.T) {
		c := steady(t)
		c.toActivity("Prepare")
		c.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "ana", Version: "7"})
		if res := c.end(); !strings.Contains(strings.Join(res.FollowUps, ""), "version 7 of local:demo") {
			t.Errorf("there is no follow-up: %q", res.FollowUps)
		}
	})
	t.Run("a key before another one", func(t *testing.T) {
		c := steady(t, byHand)
		c.toActivity("Prepare")
		for _, version := range []string{"7", "8"} {
			c.run.Signal(string(rotation.KeySupplied), rotation.DecisionMessage{By: "ana", Version: version})
		}
		for !c.run.Closed() {
			if s, _ := c.status(); s.Phase == rotation.AwaitingRevocation {
				c.signal(rotation.KeyRevoked, rotation.DecisionMessage{By: "ana"})
				continue
			}
			c.on()
		}
		var res rotation.Result
		if err := c.run.Result(&res); err != nil || !strings.Contains(strings.Join(res.FollowUps, ""), "Version 7 was supplied") {
			t.Errorf("there is no follow-up: %q %v", res.FollowUps, err)
		}
	})
}

// The rotation before it, in the same workflow, had minted.
func TestAnEmergencyThatEndsBeforeItHasDecidedLeavesNoKeyOfTheRotationBefore(t *testing.T) {
	t.Parallel()
	for sentence, end := range map[string]func(*fixture){
		"somebody rolls it back": func(r *fixture) {
			r.whenStarted("Prepare", func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
		},
		"it is not possible": func(r *fixture) {
			r.whenStarted("Prepare", func() {
				r.Cloud.Inject(simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "ListServiceAccountKeys", Kind: simcloud.Refuse, Code: 400, Times: 1})
			})
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, bothStores())
			r.whenStarted("Verify", func() { r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{By: "responder", Why: "leaked"}) })
			r.goOn()
			end(r)
			res := r.run()
			r.unchanged(res)
			if n := len(r.Cloud.LiveKeys()); n != 1 {
				t.Errorf("%d keys are live: %v, left: %q", n, r.Cloud.LiveKeys(), res.FollowUps)
			}
			if !strings.Contains(strings.Join(res.FollowUps, ""), "THE EMERGENCY IS NOT DONE") {
				t.Errorf("no follow-up says that the emergency is not done: %q", res.FollowUps)
			}
		})
	}
}

func TestAWaitThatAMessageEndsLeavesNoTimer(t *testing.T) {
	t.Parallel()
	c := steady(t, noDeadline)
	c.toActivity("CheckHealth")
	c.on()
	for range 20 {
		c.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "ana", Why: "longer", For: rotation.Duration(time.Minute)})
	}
	if timers := c.run.Pending().Timers; len(timers) != 1 {
		t.Errorf("%d timers run: %v", len(timers), c.run.Pending())
	}
}
