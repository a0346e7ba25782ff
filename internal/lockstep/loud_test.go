package lockstep_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/internal/lockstep"
)

// failing is a test that lockstep fails: it keeps why.
type failing struct {
	testing.TB
	why      string
	cleanups []func()
}

func (f *failing) Cleanup(c func())  { f.cleanups = append(f.cleanups, c) }
func (f *failing) Fatal(args ...any) { f.why = fmt.Sprintln(args...); runtime.Goexit() }
func (f *failing) Fatalf(format string, args ...any) {
	f.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// fails runs a test to its end, cleaning up included, and returns why lockstep failed it.
func fails(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	inner := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, c := range slices.Backward(inner.cleanups) {
				c()
			}
		}()
		test(inner)
	}()
	<-done
	return inner.why
}

func TestWhatIsWrongFailsTheTest(t *testing.T) {
	nexus := func(ctx workflow.Context) error {
		return workflow.NewNexusClient("endpoint", "service").ExecuteOperation(ctx, "operation", 1, workflow.NexusOperationOptions{}).Get(ctx, nil)
	}
	begin := func(t testing.TB) *lockstep.Run {
		f := lockstep.New(t, func(r worker.WorkflowRegistry) {
			register(r)
			r.RegisterWorkflowWithOptions(nexus, workflow.RegisterOptions{Name: "nexus"})
		}, lockstep.Options{})
		run := f.Start("diary", lockstep.StartOptions{}, []string{"a"})
		run.MustTask()
		return run
	}
	for why, test := range map[string]func(t testing.TB){
		"which lockstep does not know": func(t testing.TB) {
			lockstep.New(t, func(r worker.WorkflowRegistry) {
				r.RegisterWorkflowWithOptions(nexus, workflow.RegisterOptions{Name: "nexus"})
			}, lockstep.Options{}).Start("nexus", lockstep.StartOptions{}).MustTask()
		},
		"nothing has happened":              func(t testing.TB) { begin(t).MustTask() },
		"there is no open activity 99":      func(t testing.TB) { begin(t).CompleteActivity("99", nil) },
		"no activity b is open":             func(t testing.TB) { begin(t).Activity("b") },
		"nobody asked for activity":         func(t testing.TB) { r := begin(t); r.CancelActivity(r.Activity("a").ID) },
		"there is no timer 99":              func(t testing.TB) { begin(t).FireTimer("99") },
		"the clock does not go back":        func(t testing.TB) { begin(t).Wait(-1) },
		"it does not go back":               func(t testing.TB) { begin(t).AdvanceBy(-1) },
		"there is no open child one":        func(t testing.TB) { begin(t).StartChild("one") },
		"only 1 completed workflow tasks":   func(t testing.TB) { begin(t).Reset(2) },
		"nothing can happen to it any more": func(t testing.TB) { r := begin(t); r.Terminate(); r.Signal("end") },
		"unable to find workflow type": func(t testing.TB) {
			lockstep.New(t, register, lockstep.Options{}).Start("x", lockstep.StartOptions{}).MustTask()
		},
		"there is an update u already": func(t testing.TB) { r := begin(t); r.Update("write", "u", ""); r.Update("write", "u", "") },
	} {
		if got := fails(t, test); !strings.Contains(got, why) {
			t.Errorf("lockstep failed the test because of %q, not because %q", got, why)
		}
	}
}
