package lockstep_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/lockstep"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

func registerRotation(r worker.WorkflowRegistry) {
	workflows.RegisterRotation(r)
}

func theKey() rotation.Key {
	return rotation.Key{
		Name: "demo", Provider: "google", Account: "demo@example.com", Tier: rotation.Production1, Policy: rotation.Preset(rotation.Production1),
		Stores: []rotation.Location{{Store: "local", Path: "demo"}},
	}
}

func rotate(f *lockstep.Frontend) *lockstep.Run {
	return f.Start("RotateKey", lockstep.StartOptions{
		ID: workflows.ID("demo"), SearchAttributes: workflows.StartAttributes(theKey(), rotation.Manual),
	}, workflows.Input{Key: theKey(), Reason: rotation.Manual, By: "test"})
}

// answers are what the activities of a rotation say in which nothing goes wrong.
func answers(run *lockstep.Run, a lockstep.Activity) any {
	old := activities.Ref{KeyID: "old", Fingerprint: "0123456789ab", Numbers: []string{"1"}}
	fresh := activities.Ref{KeyID: "new", Fingerprint: "ba9876543210", Stamp: "stamp", Numbers: []string{"2"}}
	switch a.Type {
	case "Prepare":
		return activities.Prepared{
			Verdict: rotation.Verdict{Work: rotation.Rotate, Rule: "asked", Message: "A person asked for it."}, Old: []activities.Ref{old}, CanDisable: true,
			Propagation: rotation.Duration(time.Minute), RevocationLag: rotation.Duration(time.Minute), Horizon: rotation.Duration(time.Minute),
		}
	case "Create":
		return activities.Created{New: &fresh}
	case "Verify":
		return activities.Verified{OK: true}
	case "Promote":
		var in activities.PromoteInput
		if err := a.Decode(&in); err != nil {
			panic(err)
		}
		return activities.Promoted{To: in.To}
	case "CheckHealth":
		return activities.Health{New: true, Current: true}
	case "Guard":
		return []rotation.UsageReport{{Known: true, AskedAt: run.Now()}}
	case "Confirm":
		return activities.Confirmed{}
	case "Retire":
		return activities.Retired{}
	case "Discard":
		return activities.Discarded{}
	default:
		return nil
	}
}

// drive returns every activity its answer and lets time pass, until the rotation is over. before is asked before each
// workflow task, with what happens in it.
func drive(t *testing.T, run *lockstep.Run, before func(what string)) rotation.Result {
	t.Helper()
	run.MustTask()
	for n := 0; !run.Closed(); n++ {
		if n > 200 {
			t.Fatalf("the rotation does not end; it waits for %s", run.Pending())
		}
		what := "timer"
		if open := run.Pending().Activities; len(open) > 0 {
			what = open[0].Type
			run.Wait(time.Second)
			run.CompleteActivity(open[0].ID, answers(run, open[0]))
		} else if timer, ok := run.NextTimer(); ok {
			run.Advance(timer.FireAt)
		} else if !run.Ready() {
			t.Fatal("the rotation waits for nothing")
		}
		before(what)
		run.MustTask()
		if run.Closed() && run.Continued() != nil {
			run = run.Continued()
		}
	}
	if err := run.Replay(); err != nil {
		t.Error("the SDK's replayer does not accept the history:", err)
	}
	var result rotation.Result
	if err := run.Result(&result); err != nil {
		t.Fatal(err)
	}
	return result
}

func TestARotationRunsToItsEnd(t *testing.T) {
	for name, between := range map[string]func(*lockstep.Run){
		"from the cache": func(*lockstep.Run) {}, "replayed before every task": (*lockstep.Run).DropCache, "by two workers in turn": (*lockstep.Run).OtherWorker,
		"from a history that is fetched": (*lockstep.Run).LoseCache,
	} {
		t.Run(name, func(t *testing.T) {
			run := rotate(lockstep.New(t, registerRotation, lockstep.Options{}))
			var steps []string
			result := drive(t, run, func(what string) {
				between(run)
				if len(steps) == 0 || steps[len(steps)-1] != what {
					steps = append(steps, what)
				}
			})
			if result.Phase != rotation.Completed || len(result.Revoked) != 1 || result.New != "ba9876543210" {
				t.Errorf("the result is %+v", result)
			}
			// Health checks and waits alternate in grace.
			order := "Prepare Create Verify Promote timer CheckHealth … timer Guard Revoke timer Revoke Confirm Retire"
			head, tail, _ := strings.Cut(order, " … ")
			if got := strings.Join(steps, " "); !strings.HasPrefix(got, head) || !strings.HasSuffix(got, tail) {
				t.Errorf("the steps are %s, not %s", got, order)
			}
			var phase string
			if ok, err := run.SearchAttribute("RekeyPhase", &phase); !ok || err != nil || phase != string(rotation.Completed) {
				t.Errorf("the list shows %q, %v", phase, err)
			}
			var memo rotation.Result
			if err := run.Memo(workflows.ResultMemo, &memo); err != nil || memo.Phase != result.Phase {
				t.Errorf("the memo has %+v, %v", memo, err)
			}
		})
	}
}

func TestARollBackThatComesWithThePromotesAnswerIsCarriedOut(t *testing.T) {
	run := rotate(lockstep.New(t, registerRotation, lockstep.Options{Details: true}))
	asked := false
	result := drive(t, run, func(what string) {
		if what == "Promote" && !asked {
			asked = true
			run.Signal(string(rotation.RollBack), rotation.DecisionMessage{By: "operator", Why: "the test says so"})
		}
	})
	if !asked || result.Phase != rotation.RolledBack || len(result.Revoked) != 1 || result.Revoked[0] != "new" {
		t.Errorf("the result is %+v", result)
	}
}

func TestTheSameChoicesMakeTheSameHistory(t *testing.T) {
	var histories []string
	for range 2 {
		run := rotate(lockstep.New(t, registerRotation, lockstep.Options{}))
		drive(t, run, func(string) {})
		// But for the run's ID, and the rotation's that is made of it: no two frontends of a process share a run's ID.
		histories = append(histories, strings.NewReplacer(run.RunID, "RUN", rotation.ID(run.RunID), "ROTATION").Replace(run.History().String()))
	}
	if diff := cmp.Diff(histories[0], histories[1]); diff != "" {
		t.Error("two histories differ:", diff)
	}
}

func TestARotationContinuesAsNewInTheMiddle(t *testing.T) {
	run := rotate(lockstep.New(t, registerRotation, lockstep.Options{SuggestContinueAsNewAfter: 30}))
	result := drive(t, run, func(string) {})
	if run.Continued() == nil || result.Phase != rotation.Completed || len(result.Revoked) != 1 {
		t.Errorf("the result is %+v", result)
	}
}

// BenchmarkRotation measures whole rotations, and their workflow tasks.
func BenchmarkRotation(b *testing.B) {
	for name, between := range map[string]func(*lockstep.Run){"cached": func(*lockstep.Run) {}, "replayed": (*lockstep.Run).DropCache} {
		b.Run(name, func(b *testing.B) {
			f := lockstep.New(b, registerRotation, lockstep.Options{Workers: 4})
			tasks := 0
			for b.Loop() {
				run := rotate(f)
				for !run.Closed() {
					if open := run.Pending().Activities; len(open) > 0 {
						run.CompleteActivity(open[0].ID, answers(run, open[0]))
					} else if timer, ok := run.NextTimer(); ok {
						run.Advance(timer.FireAt)
					}
					between(run)
					run.MustTask()
					tasks++
				}
			}
			b.ReportMetric(float64(tasks)/float64(b.N), "tasks/op")
			b.ReportMetric(float64(tasks)/b.Elapsed().Seconds(), "tasks/s")
		})
	}
}
