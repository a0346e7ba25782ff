package lockstep_test

import (
	"errors"
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

// diary does one activity after another, writes down what comes in which order, and ends with the signal "end". A
// timer runs beside all that.
func diary(ctx workflow.Context, activities []string) ([]string, error) {
	var lines []string
	ended := false
	write := func(format string, a ...any) { lines = append(lines, fmt.Sprintf(format, a...)) }
	_ = workflow.SetQueryHandler(ctx, "lines", func() ([]string, error) { return lines, nil })
	_ = workflow.SetUpdateHandlerWithOptions(ctx, "write", func(ctx workflow.Context, what string) (int, error) {
		write("update %s", what)
		if what == "slowly" {
			_ = workflow.Await(ctx, func() bool { return ended })
		}
		if what == "badly" {
			return 0, errors.New("a blot")
		}
		return len(lines), nil
	}, workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, what string) error {
		if what == "" {
			return errors.New("nothing to write")
		}
		return nil
	}})
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var what string
			workflow.GetSignalChannel(ctx, "note").Receive(ctx, &what)
			write("signal %s", what)
		}
	})
	workflow.Go(ctx, func(ctx workflow.Context) {
		workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
		write("end")
		ended = true
	})
	workflow.Go(ctx, func(ctx workflow.Context) {
		err := workflow.NewTimerWithOptions(ctx, time.Hour, workflow.TimerOptions{Summary: "an hour"}).Get(ctx, nil)
		write("timer %v", err)
	})
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, WaitForCancellation: true})
	for _, name := range activities {
		var result string
		err := workflow.ExecuteActivity(ctx, name, len(lines)).Get(ctx, &result)
		var application *temporal.ApplicationError
		var timeout *temporal.TimeoutError
		switch {
		case errors.As(err, &application):
			write("%s failed: %s %v", name, application.Type(), application.NonRetryable())
		case errors.As(err, &timeout):
			write("%s timed out: %s", name, timeout.TimeoutType())
		case temporal.IsCanceledError(err):
			write("%s canceled", name)
		default:
			write("%s: %s", name, result)
		}
		workflow.SetCurrentDetails(ctx, "after "+name)
	}
	if err := workflow.Await(ctx, func() bool { return ended && workflow.AllHandlersFinished(ctx) }); err != nil {
		write("%v", err)
		return lines, err
	}
	return lines, nil
}

func register(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(diary, workflow.RegisterOptions{Name: "diary"})
}

func started(t *testing.T, activities ...string) *lockstep.Run {
	t.Helper()
	f := lockstep.New(t, register, lockstep.Options{})
	run := f.Start("diary", lockstep.StartOptions{}, activities)
	run.MustTask()
	return run
}

func finish(t *testing.T, run *lockstep.Run) []string {
	t.Helper()
	run.Signal("end")
	run.MustTask()
	var lines []string
	if err := run.Result(&lines); err != nil {
		t.Fatal(err)
	}
	replay(t, run)
	return lines
}

func replay(t *testing.T, run *lockstep.Run) {
	t.Helper()
	if err := run.Replay(); err != nil {
		t.Error("the SDK's replayer does not accept the history:", err)
	}
}

func want(t *testing.T, got []string, lines ...string) {
	t.Helper()
	if strings.Join(got, "; ") != strings.Join(lines, "; ") {
		t.Errorf("the workflow wrote %q, not %q", got, lines)
	}
}

func ask(t *testing.T, run *lockstep.Run) []string {
	t.Helper()
	value, err := run.Query("lines")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	if err := value.Get(&lines); err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestAnActivitysResultAndSignalsComeInOneTask(t *testing.T) {
	run := started(t, "read")
	run.Signal("note", "before")
	run.CompleteActivity(run.Activity("read").ID, "page 1")
	run.Signal("note", "after")
	run.MustTask()
	// The SDK runs the workflow's coroutines in the order in which they began, whatever woke them.
	want(t, ask(t, run), "read: page 1", "signal before", "signal after")
	want(t, finish(t, run), "read: page 1", "signal before", "signal after", "end")
}

func TestATimerAndASignalComeInOneTask(t *testing.T) {
	run := started(t)
	timer, ok := run.NextTimer()
	if !ok || timer.Summary != "an hour" || !timer.FireAt.Equal(lockstep.DefaultStart.Add(time.Hour)) {
		t.Fatalf("the timer is %+v", timer)
	}
	run.Signal("note", "early")
	run.AdvanceBy(2 * time.Hour)
	run.Signal("note", "late")
	run.MustTask()
	want(t, finish(t, run), "signal early", "signal late", "timer <nil>", "end")
}

func TestActivitiesFailInEveryWay(t *testing.T) {
	run := started(t, "a", "b", "c")
	if a := run.Activity("a"); a.Options.GetStartToCloseTimeout().AsDuration() != time.Minute {
		t.Errorf("the options are %v", a.Options)
	}
	run.FailActivity(run.Activity("a").ID, temporal.NewNonRetryableApplicationError("no", "Refused", nil))
	run.MustTask()
	run.FailActivity(run.Activity("b").ID, temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_START_TO_CLOSE, nil))
	run.MustTask()
	run.FailActivity(run.Activity("c").ID, temporal.NewApplicationError("no", "Busy"))
	run.MustTask()
	want(t, finish(t, run), "a failed: Refused true", "b timed out: StartToClose", "c failed: Busy false", "end")
}

func TestACancelReachesAnActivityThatRunsAndOneThatNobodyPickedUp(t *testing.T) {
	run := started(t, "read")
	run.Cancel()
	run.MustTask()
	if a := run.Activity("read"); !a.CancelRequested {
		t.Error("nobody asked for the activity to be cancelled")
	}
	run.CancelActivity(run.Activity("read").ID)
	run.MustTask()
	if run.Status() != enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED {
		t.Errorf("the run is %s", run.Status())
	}
	replay(t, run)

	run = started(t, "read")
	run.NotPickedUp(run.Activity("read").ID)
	run.Cancel()
	run.MustTask()
	if !run.Ready() || len(run.Pending().Activities) > 0 {
		t.Error("an activity that nobody picked up was not cancelled at once")
	}
	run.MustTask()
	if run.Status() != enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED {
		t.Errorf("the run is %s", run.Status())
	}
	replay(t, run)
}

func TestAWorkflowThatIsReplayedGoesOnAsBefore(t *testing.T) {
	tell := func(between func(*lockstep.Run)) ([]string, int) {
		run := started(t, "a", "b", "c")
		replayed := 0
		for _, name := range []string{"a", "b", "c"} {
			between(run)
			run.Signal("note", name)
			run.CompleteActivity(run.Activity(name).ID, "done")
			run.AdvanceBy(25 * time.Minute)
			if run.MustTask().Replayed {
				replayed++
			}
			if got := run.Details(); got != "after "+name {
				t.Errorf("the details are %q after %s", got, name)
			}
		}
		return finish(t, run), replayed
	}
	plain, replayed := tell(func(*lockstep.Run) {})
	if replayed != 0 {
		t.Errorf("%d tasks were replayed without a reason", replayed)
	}
	for name, between := range map[string]func(*lockstep.Run){
		"the cache is lost": (*lockstep.Run).DropCache, "another worker takes over": (*lockstep.Run).OtherWorker,
		"the cache is lost unseen": (*lockstep.Run).LoseCache,
	} {
		lines, replayed := tell(between)
		if replayed != 3 {
			t.Errorf("%s: %d tasks were replayed", name, replayed)
		}
		want(t, lines, plain...)
	}
}

func TestAQueryIsAnsweredByAReplayIfTheCacheIsLost(t *testing.T) {
	run := started(t, "a")
	run.DropCache()
	want(t, ask(t, run))
	run.CompleteActivity(run.Activity("a").ID, "done")
	run.MustTask()
	want(t, finish(t, run), "a: done", "end")
}

func TestAWorkflowThatDoesOtherThanItsHistoryIsNoticed(t *testing.T) {
	again := false
	fickle := func(ctx workflow.Context) error {
		name := "a"
		if again {
			name = "b"
		}
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		_ = workflow.ExecuteActivity(ctx, name).Get(ctx, nil)
		workflow.GetSignalChannel(ctx, "end").Receive(ctx, nil)
		return nil
	}
	f := lockstep.New(t, func(r worker.WorkflowRegistry) {
		r.RegisterWorkflowWithOptions(fickle, workflow.RegisterOptions{Name: "fickle"})
	}, lockstep.Options{})
	run := f.Start("fickle", lockstep.StartOptions{})
	run.MustTask()
	again = true
	run.CompleteActivity(run.Activity("a").ID, nil)
	run.DropCache()
	if _, err := run.Task(); !lockstep.Nondeterministic(err) {
		t.Fatalf("the task's error is %v", err)
	}
	again = false
	run.Signal("end")
	run.MustTask()
	if !run.Closed() || run.Result(nil) != nil {
		t.Errorf("the run is %s after the mend: %v", run.Status(), run.Result(nil))
	}
}

func TestAPanicFailsTheTaskAndNotTheWorkflow(t *testing.T) {
	broken := true
	panics := func(workflow.Context) error {
		if broken {
			panic("out of ink")
		}
		return nil
	}
	f := lockstep.New(t, func(r worker.WorkflowRegistry) {
		r.RegisterWorkflowWithOptions(panics, workflow.RegisterOptions{Name: "panics"})
	}, lockstep.Options{})
	run := f.Start("panics", lockstep.StartOptions{})
	if _, err := run.Task(); err == nil || lockstep.Nondeterministic(err) || !strings.Contains(err.Error(), "out of ink") {
		t.Fatalf("the task's error is %v", err)
	}
	broken = false
	run.MustTask()
	if !run.Closed() {
		t.Error("the workflow did not end after the mend")
	}
}
