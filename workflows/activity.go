package workflows

import (
	"errors"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/workflows/details"
)

// readRetry is for activities that only look: cheap to repeat, and somebody may be waiting for the answer.
func readRetry() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: 500 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 20 * time.Second, MaximumAttempts: 5, NonRetryableErrorTypes: needsAPerson}
}

// writeRetry is for activities that change something and are safe to repeat.
func writeRetry() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second, MaximumAttempts: 5, NonRetryableErrorTypes: needsAPerson}
}

// noRetry is for Create: the workflow has to look at every failure, because it may have to wait out the horizon.
func noRetry() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{MaximumAttempts: 1}
}

// blockedRetry is for a step that is blocked: Temporal tries until it succeeds, which costs no events. Whatever the
// rotation hears meanwhile ends it.
func blockedRetry() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: 15 * time.Second, BackoffCoefficient: 2, MaximumInterval: 15 * time.Minute}
}

// needsAPerson are the classes of failure that repeating does not cure at once, but a person may.
var needsAPerson = []string{string(fault.AccessDenied)}

// failure is a failed activity, as the workflow sees it.
type failure struct {
	class fault.Class
	text  string
	activities.Failure
}

// classify sorts the error of an activity. A worker that died is Unavailable, and nobody knows what it did.
func classify(err error) *failure {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		f := &failure{class: fault.Class(app.Type()), text: details.Sentence(app.Message())}
		if app.HasDetails() {
			_ = app.Details(&f.Failure)
		}
		return f
	}
	return &failure{
		class: fault.Unavailable, text: "The worker did not answer in time; it may have died.",
		Failure: activities.Failure{Code: "worker", Unsettled: true},
	}
}

// waitable reports whether the same request can succeed later, perhaps after a person has granted something.
func (f *failure) waitable() bool { return f.class.Retryable() || f.class == fault.AccessDenied }

// runStep runs the activity of the present step. If neither an answer nor a failure comes back (ok is false, f is nil) the
// step is blocked, or somebody's message came in between: the step is to be done again, and Temporal tries for as long as
// it takes. A failure that waiting does not cure comes back as f.
func runStep[T any](r *runner, retry *temporal.RetryPolicy, summary string, activity, in any) (out T, f *failure, ok bool) {
	if r.Blocked.Since.IsZero() {
		f = r.runOnce(retry, summary, activity, in, &out)
	} else {
		var interrupted bool
		if f, interrupted = r.runBlocked(summary, activity, in, &out); interrupted {
			return out, nil, false
		}
	}
	switch {
	case f == nil:
		r.unblock()
		return out, nil, true
	case f.waitable():
		r.block(f)
		return out, nil, false
	}
	r.unblock()
	return out, f, false
}

// runOnce runs an activity with the retries of its policy only.
func (r *runner) runOnce(retry *temporal.RetryPolicy, summary string, activity, in, out any) *failure {
	r.active()
	ctx := workflow.WithActivityOptions(r.ctx, r.activityOptions(retry, summary))
	if err := workflow.ExecuteActivity(ctx, activity, in).Get(ctx, out); err != nil {
		return r.failed(err)
	}
	return nil
}

// runBlocked runs an activity that Temporal retries until there is an answer. A message that changes the plan, or a
// history that has grown too long, ends it between two tries: a try that is under way is waited for, so what it did is
// known.
func (r *runner) runBlocked(summary string, activity, in, out any) (f *failure, interrupted bool) {
	r.active()
	ctx, cancel := workflow.WithCancel(r.ctx)
	defer cancel()
	options := r.activityOptions(blockedRetry(), summary+": again, until it succeeds")
	options.WaitForCancellation = true
	answer := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), activity, in)
	w := waiting{summary: "blocked: " + summary + " (why is under User Metadata)", personFrom: r.Blocked.Since.Add(r.blockedAfter()), done: answer.IsReady}
	r.wait(w)
	cancel()
	err := answer.Get(r.ctx, out)
	switch {
	case err == nil:
		return nil, false
	case temporal.IsCanceledError(err):
		return nil, true
	}
	return r.failed(err), false
}

// maxLinks bounds what a rotation remembers of addresses; few consoles have anything to do with one key.
const maxLinks = 16

// failed sorts the error of an activity, and learns which addresses in its text are rekey's own.
func (r *runner) failed(err error) *failure {
	f := classify(err)
	for _, l := range f.Links {
		if !slices.Contains(r.Carry.Links, l) && len(r.Carry.Links) < maxLinks {
			r.Carry.Links = append(r.Carry.Links, l)
		}
	}
	return f
}

func (r *runner) activityOptions(retry *temporal.RetryPolicy, summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: time.Duration(r.in.Key.Policy.StepTimeout), RetryPolicy: retry, Summary: details.Escape(summary), Priority: Priority(r.in.Reason),
	}
}
