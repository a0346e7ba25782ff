package resources

import (
	"slices"
	"testing"
	"time"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
)

const day = 24 * time.Hour

// grace is how long it lasts in the tests of clocks.
const grace = 3 * time.Second

// jump is a moment at which the worker's clock jumps.
type jump struct {
	sentence string
	// moment waits until it is there, in a rotation that begins meanwhile.
	moment func(w *env, begin func())
	// then is done after the jump.
	then func(w *env)
}

// atFault is the moment at which a request runs into a fault.
func atFault(f simcloud.Fault) func(*env, func()) {
	return func(w *env, begin func()) {
		f.Times, f.Reached = 1, make(chan struct{})
		w.Cloud.Inject(f)
		begin()
		select {
		case <-f.Reached:
		case <-time.After(time.Minute):
			w.Fatalf("nobody asks for %s", f.Method)
		}
	}
}

// inPhase is the moment at which a rotation is in a phase, in a cloud that is slow.
func inPhase(p rotation.Phase, slow simcloud.Timing) func(*env, func()) {
	return func(w *env, begin func()) {
		w.Cloud.SetTiming(slow)
		begin()
		w.AwaitPhase(name, p)
	}
}

func jumps() []jump {
	late, done := make(chan struct{}), make(chan struct{})
	return []jump{
		{sentence: "in grace", moment: inPhase(rotation.Grace, simcloud.Timing{})},
		{sentence: "a mint has no answer", moment: atFault(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.DropBefore})},
		{sentence: "a mint has no answer and was done", moment: atFault(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.LoseReply})},
		{
			sentence: "a mint has no answer and is done late",
			moment:   atFault(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.CommitLate, Release: late, Done: done}),
			then: func(w *env) {
				w.Await("another mint", func() bool { return len(w.Cloud.LiveKeys()) == 2 })
				close(late)
				<-done
			},
		},
		{sentence: "in verify", moment: inPhase(rotation.Verify, simcloud.Timing{Propagation: 2 * time.Second})},
		{sentence: "in confirm", moment: inPhase(rotation.Confirm, simcloud.Timing{RevocationLag: 2 * time.Second})},
		{sentence: "a revoke has no answer", moment: atFault(simcloud.Fault{Service: "google-iam", Method: "DeleteServiceAccountKey", Kind: simcloud.DropBefore})},
		{sentence: "a revoke has no answer and was done", moment: atFault(simcloud.Fault{Service: "google-iam", Method: "DeleteServiceAccountKey", Kind: simcloud.LoseReply})},
	}
}

func TestAWorkersClockThatJumpsEndsNoWaitEarlierOrLater(t *testing.T) {
	t.Parallel()
	for way, by := range map[string]time.Duration{"forward": day, "back": -day} {
		for _, j := range some(2, jumps()...) {
			t.Run(way+" when "+j.sentence, func(t *testing.T) {
				t.Parallel()
				w := newClock(t)
				w.StartProcess(testenv.ProcessOptions{})
				var run sdkclient.WorkflowRun
				j.moment(w, func() { run = w.Rotate(name, rotation.Manual) })
				w.MoveWorkerClock(by)
				if j.then != nil {
					j.then(w)
				}
				w.undisturbed(w.replaced(run))
			})
		}
	}
}

func newClock(t *testing.T) *env {
	t.Helper()
	w := newEnv(t, testenv.Options{SimOptions: testenv.SimOptions{Scenario: scenario.Options{
		RequestTimeout: "1s", Policy: append([]string{"grace: " + grace.String()}, fast[1:]...),
	}}})
	return w
}

// undisturbed checks that the rotation took the ordinary way, that grace lasted as long as it should, and that nobody was told
// that anything was late.
func (w *env) undisturbed(res rotation.Result) {
	w.Helper()
	var published, gone time.Time
	for _, e := range w.Cloud.Journal() {
		switch {
		case e.Kind == simcloud.Published && e.KeyID != w.oldID:
			published = e.At
		case (e.Kind == simcloud.KeyDisabled || e.Kind == simcloud.KeyDeleted) && e.KeyID == w.oldID && gone.IsZero():
			gone = e.At
		}
	}
	if published.IsZero() || gone.Sub(published) < grace {
		w.Errorf("I2: published at %s, and the old key was taken away at %s", published, gone)
	}
	for _, e := range res.Trail {
		if slices.Contains([]rotation.Phase{rotation.AwaitingApproval, rotation.AwaitingRevocation, rotation.RollingBack}, e.Phase) {
			w.Errorf("it came to %s: %+v", e.Phase, res)
		}
	}
	if len(res.FollowUps) > 0 {
		w.Errorf("it left work to people: %v", res.FollowUps)
	}
}

// Google refuses what is signed by a machine whose clock is wrong, in the words with which it refuses a key that is gone.
func TestAMachineWhoseClockIsADayOffTakesNothingAwayUntilItIsSet(t *testing.T) {
	t.Parallel()
	for _, by := range some(1, -day, day) {
		t.Run("Google's clock shows "+by.String()+" more", func(t *testing.T) {
			t.Parallel()
			w := newClock(t)
			w.StartProcess(testenv.ProcessOptions{})
			run := w.Rotate(name, rotation.Manual)
			w.AwaitPhase(name, rotation.Grace)
			w.MoveWorkerClock(-by)
			w.IAM.SetClockSkew(by)
			w.AwaitPhase(name, rotation.Revoke)
			w.says("clock_skew", "set this machine's clock")
			if live := w.Cloud.LiveKeys(); len(live) != 2 {
				t.Errorf("a key was taken away: %v", live)
			}
			w.MoveWorkerClock(0)
			w.IAM.SetClockSkew(0)
			w.undisturbed(w.replaced(run))
		})
	}
}
