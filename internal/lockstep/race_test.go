package lockstep_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/internal/lockstep"
)

func state(t *testing.T, u *lockstep.Update, want lockstep.UpdateState, what string) {
	t.Helper()
	var n int
	err := u.Result(&n)
	got := fmt.Sprint(n)
	if err != nil {
		got = err.Error()
	}
	if u.State != want || !strings.Contains(got, what) {
		t.Errorf("the update %s is %s (%s), not %s (%s)", u.ID, u.State, got, want, what)
	}
}

func TestUpdatesAreAcceptedRejectedAndCompleted(t *testing.T) {
	for name, between := range map[string]func(*lockstep.Run){
		"cached": func(*lockstep.Run) {}, "replayed": (*lockstep.Run).DropCache, "by two workers": (*lockstep.Run).OtherWorker,
		"replayed from a history that is fetched": (*lockstep.Run).LoseCache,
	} {
		t.Run(name, func(t *testing.T) {
			run := started(t, "a")
			before := run.Len()
			no, nobody := run.Update("write", "no", ""), run.Update("read", "")
			if done := run.MustTask(); !done.Dropped || run.Len() != before {
				t.Errorf("rejected updates left something in the history: %v", done)
			}
			state(t, no, lockstep.Rejected, "nothing to write")
			state(t, nobody, lockstep.Rejected, "unknown update read")

			between(run)
			quick, bad, slow := run.Update("write", "", "quickly"), run.Update("write", "", "badly"), run.Update("write", "", "slowly")
			run.MustTask()
			state(t, quick, lockstep.Completed, "1")
			state(t, bad, lockstep.Completed, "a blot")
			state(t, slow, lockstep.Accepted, "accepted")

			between(run)
			again := run.Update("write", "no", "")
			run.CompleteActivity(run.Activity("a").ID, "done")
			if done := run.MustTask(); done.Dropped {
				t.Error("a task with an activity's result was dropped")
			}
			state(t, again, lockstep.Rejected, "nothing to write")
			between(run)
			want(t, finish(t, run), "update quickly", "update badly", "update slowly", "a: done", "end")
			state(t, slow, lockstep.Completed, "5")
		})
	}
}

func TestAnUpdateAndASignalComeInOneTask(t *testing.T) {
	run := started(t)
	run.Update("write", "", "update")
	run.Signal("note", "signal")
	run.MustTask()
	want(t, finish(t, run), "update update", "signal signal", "end")
}

func TestWhatComesWhileTheWorkflowEndsIsNotLost(t *testing.T) {
	run := started(t)
	run.Signal("end")
	run.Meanwhile(func() { run.Signal("note", "wait") })
	if done := run.MustTask(); !done.Refused || run.Closed() {
		t.Fatalf("the workflow ended without its signal: %v", done)
	}
	run.MustTask()
	var lines []string
	if err := run.Result(&lines); err != nil {
		t.Fatal(err)
	}
	want(t, lines, "signal wait", "end")
	replay(t, run)
}

func TestWhatComesWhileATaskRunsStandsBehindItsEvents(t *testing.T) {
	run := started(t, "a", "b")
	a := run.Activity("a").ID
	run.CompleteActivity(a, "done")
	run.Meanwhile(func() { run.AdvanceBy(time.Hour); run.Signal("note", "n"); run.Cancel() })
	if done := run.MustTask(); done.Refused || !run.Ready() {
		t.Fatalf("the task came to %v", done)
	}
	run.FailActivity(run.Activity("b").ID, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil))
	run.MustTask()
	if !temporal.IsCanceledError(run.Result(nil)) {
		t.Errorf("the run is %s", run.Status())
	}
	replay(t, run)
}

func TestATimerThatFiresWhileItIsCancelledNeverFired(t *testing.T) {
	race := func(ctx workflow.Context) error {
		ctx, cancel := workflow.WithCancel(ctx)
		workflow.NewTimer(ctx, time.Hour)
		workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
		cancel()
		return nil
	}
	f := lockstep.New(t, func(r worker.WorkflowRegistry) {
		r.RegisterWorkflowWithOptions(race, workflow.RegisterOptions{Name: "race"})
	}, lockstep.Options{})
	run := f.Start("race", lockstep.StartOptions{})
	run.MustTask()
	run.Signal("end")
	run.Meanwhile(func() { run.AdvanceBy(time.Hour) })
	if done := run.MustTask(); done.Refused || !run.Closed() {
		t.Errorf("the task came to %v", done)
	}
	replay(t, run)
}

func TestAResetGoesBackAndBringsTheSignalsAndUpdatesAgain(t *testing.T) {
	run := started(t, "a", "b")
	run.CompleteActivity(run.Activity("a").ID, "done")
	run.MustTask()
	slow := run.Update("write", "u", "slowly")
	run.Signal("note", "n")
	run.CompleteActivity(run.Activity("b").ID, "bad")
	run.MustTask()
	if n := run.WorkflowTasks(); n != 3 {
		t.Fatalf("%d workflow tasks were completed", n)
	}

	back := run.Reset(2)
	if !run.Closed() || back.FirstRunID != run.FirstRunID || back.RunID == run.RunID {
		t.Errorf("the old run is %s, the new one %s of %s", run.Status(), back.RunID, back.FirstRunID)
	}
	state(t, slow, lockstep.Aborted, "ended before")
	back.MustTask()
	back.CompleteActivity(back.Activity("b").ID, "good")
	back.MustTask()
	// The task of the reset brings a's result, the update and the signal together; the SDK runs handlers of updates first.
	want(t, finish(t, back), "update slowly", "a: done", "signal n", "b: good", "end")
	state(t, back.Updates()[0], lockstep.Completed, "5")

	bare := back.Reset(1, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL, enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE)
	bare.MustTask()
	bare.CompleteActivity(bare.Activity("a").ID, "once more")
	bare.MustTask()
	bare.CompleteActivity(bare.Activity("b").ID, "good")
	bare.OtherWorker()
	bare.MustTask()
	want(t, finish(t, bare), "a: once more", "b: good", "end")
}

var (
	mood  = temporal.NewSearchAttributeKeyKeyword("Mood")
	since = temporal.NewSearchAttributeKeyTime("Since")
)

// relay counts signals over many runs, and says so in memo and search attributes.
func relay(ctx workflow.Context, n int) (string, error) {
	info := workflow.GetInfo(ctx)
	var answer string
	if err := workflow.SideEffect(ctx, func(workflow.Context) any { return "by chance" }).Get(&answer); err != nil {
		return "", err
	}
	if v := workflow.GetVersion(ctx, "words", workflow.DefaultVersion, 1); v != 1 {
		return "", fmt.Errorf("version %d", v)
	}
	for !workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
		more := workflow.GetSignalChannel(ctx, "more").ReceiveWithTimeout
		if ok, _ := more(ctx, 24*time.Hour, nil); !ok {
			m, _ := workflow.GetTypedSearchAttributes(ctx).GetKeyword(mood)
			return fmt.Sprintf("%d, %s, %s, first %t", n, m, answer, info.ContinuedExecutionRunID == "" && info.FirstRunID == info.WorkflowExecution.RunID), nil
		}
		n++
		if err := workflow.UpsertMemo(ctx, map[string]any{"n": n}); err != nil {
			return "", err
		}
		if err := workflow.UpsertTypedSearchAttributes(ctx, mood.ValueSet(fmt.Sprintf("mood %d", n)), since.ValueUnset()); err != nil {
			return "", err
		}
	}
	return "", workflow.NewContinueAsNewError(ctx, "relay", n)
}

func TestAWorkflowContinuesAsNew(t *testing.T) {
	registerRelay := func(r worker.WorkflowRegistry) {
		r.RegisterWorkflowWithOptions(relay, workflow.RegisterOptions{Name: "relay"})
	}
	f := lockstep.New(t, registerRelay, lockstep.Options{SuggestContinueAsNewAfter: 40})
	first := f.Start("relay", lockstep.StartOptions{
		Memo: map[string]any{"who": "test"}, SearchAttributes: temporal.NewSearchAttributes(mood.ValueSet("calm"), since.ValueSet(lockstep.DefaultStart)),
	}, 0)
	first.MustTask()
	run, runs := first, 1
	for i := range 40 {
		if i%5 == 4 {
			run.DropCache()
		}
		run.AdvanceBy(time.Minute)
		run.Signal("more")
		run.MustTask()
		if run.Closed() {
			replay(t, run)
			next := run.Continued()
			if next == nil || next.ID != first.ID || next.FirstRunID != first.RunID || !next.Now().Equal(run.Now()) {
				t.Fatalf("the run %s continued as %+v", run.RunID, next)
			}
			run, runs = next, runs+1
			run.MustTask()
		}
	}
	var n int
	var who, m string
	if err := run.Memo("n", &n); err != nil || n != 40 {
		t.Errorf("the memo says %d, %v", n, err)
	}
	if err := run.Memo("who", &who); err != nil || who != "test" {
		t.Errorf("the memo says %q, %v", who, err)
	}
	if ok, err := run.SearchAttribute("Mood", &m); !ok || err != nil || m != "mood 40" {
		t.Errorf("the mood is %q, %v", m, err)
	}
	if ok, _ := run.SearchAttribute("Since", nil); ok {
		t.Error("an attribute that was taken away is still there")
	}
	run.AdvanceBy(24 * time.Hour)
	run.MustTask()
	var result string
	if err := run.Result(&result); err != nil || result != "40, mood 40, by chance, first false" {
		t.Errorf("the result is %q, %v", result, err)
	}
	if runs < 3 {
		t.Errorf("only %d runs", runs)
	}
	replay(t, run)
	if done := len(first.Updates()); done != 0 {
		t.Errorf("%d updates", done)
	}
}

// parent starts two children and sends one of them a signal.
func parent(ctx workflow.Context) ([]string, error) {
	var lines []string
	for _, id := range []string{"one", "two"} {
		ctx := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: id})
		child := workflow.ExecuteChildWorkflow(ctx, "child", id)
		if err := child.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
			lines = append(lines, fmt.Sprintf("%s not started: %t", id, temporal.IsWorkflowExecutionAlreadyStartedError(err)))
			continue
		}
		sent := workflow.SignalExternalWorkflow(ctx, "elsewhere", "", "hello", id).Get(ctx, nil)
		var result string
		err := child.Get(ctx, &result)
		lines = append(lines, fmt.Sprintf("%s: %q %v, sent %v", id, result, err, sent))
	}
	return lines, nil
}

func TestChildrenAndMessagesFareAsTheTestSays(t *testing.T) {
	f := lockstep.New(t, func(r worker.WorkflowRegistry) {
		r.RegisterWorkflowWithOptions(parent, workflow.RegisterOptions{Name: "parent"})
	}, lockstep.Options{})
	run := f.Start("parent", lockstep.StartOptions{})
	run.MustTask()
	var input string
	if child := run.Pending().Children[0]; child.Decode(&input) != nil || input != "one" || child.Type != "child" || child.Started {
		t.Errorf("the child is %+v", child)
	}
	run.StartChild("one")
	run.MustTask()
	message := run.Pending().Externals[0]
	if message.Decode(&input) != nil || message.WorkflowID != "elsewhere" || message.Signal != "hello" {
		t.Errorf("the message is %+v", message)
	}
	run.Deliver(message.EventID)
	run.CompleteChild("one", "well")
	run.MustTask()
	run.OtherWorker()
	run.RefuseChild("two")
	run.MustTask()
	var lines []string
	if err := run.Result(&lines); err != nil {
		t.Fatal(err)
	}
	want(t, lines, `one: "well" <nil>, sent <nil>`, "two not started: true")
	replay(t, run)
}

func TestTheDetailsComeWithTheTaskIfTheyAreAskedFor(t *testing.T) {
	f := lockstep.New(t, register, lockstep.Options{Details: true})
	run := f.Start("diary", lockstep.StartOptions{}, []string{"a", "b"})
	run.MustTask()
	run.CompleteActivity(run.Activity("a").ID, "done")
	if done := run.MustTask(); done.Details != "after a" || done.String() != "ScheduleActivityTask b 12" {
		t.Errorf("the details are %q, the commands %s", done.Details, done)
	}
}

func TestTwoRunsTakeTurns(t *testing.T) {
	f := lockstep.New(t, register, lockstep.Options{})
	runs := []*lockstep.Run{f.Start("diary", lockstep.StartOptions{}, []string{"a"}), f.Start("diary", lockstep.StartOptions{}, []string{"a"})}
	for _, run := range runs {
		run.MustTask()
	}
	for range 5 {
		for i, run := range runs {
			run.Signal("note", i)
			if run.MustTask().Replayed {
				t.Error("a run lost its cache to the other")
			}
		}
	}
}
