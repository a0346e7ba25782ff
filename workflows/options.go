// Package workflows holds deterministic code only: RotateKey rotates one key. What it decides by is in package
// rotation, what it does to the world is in package activities.
package workflows

import (
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// TaskQueue is where the workflows go that belong to no provider: what starts rotations.
const TaskQueue = "rekey"

// ProviderTaskQueue is where the rotations of one provider's keys go, workflow and activities, so that its workers can
// be given its credentials and its rate limit alone. One queue for both lets Temporal hand a step's activity to the
// worker that asked for it, without a turn through the queue.
func ProviderTaskQueue(provider string) string { return TaskQueue + "-" + provider }

const idPrefix = "rotate/"

// ID is the workflow id of the rotations of a key: Temporal lets one of an id run at a time (I6).
func ID(key string) string { return idPrefix + key }

// KeyOfID reads a workflow id back.
func KeyOfID(id string) (key string, ok bool) {
	if len(id) <= len(idPrefix) || id[:len(idPrefix)] != idPrefix {
		return "", false
	}
	return id[len(idPrefix):], true
}

// StatusQuery is the query that answers with rotation.Status.
const StatusQuery = "status"

// ResultMemo is the memo field that holds the rotation.Result of a closed rotation.
const ResultMemo = "result"

// The search attributes of a rotation. They are few: a SQLite visibility store has ten keyword slots and three
// for datetimes.
var (
	KeyAttribute      = temporal.NewSearchAttributeKeyKeyword("RekeyKey")
	ProviderAttribute = temporal.NewSearchAttributeKeyKeyword("RekeyProvider")
	TierAttribute     = temporal.NewSearchAttributeKeyKeyword("RekeyTier")
	PhaseAttribute    = temporal.NewSearchAttributeKeyKeyword("RekeyPhase")
	ReasonAttribute   = temporal.NewSearchAttributeKeyKeyword("RekeyReason")
	DeadlineAttribute = temporal.NewSearchAttributeKeyTime("RekeyDeadline")
)

// SearchAttributes gives names and types of the search attributes that must be registered in the namespace.
func SearchAttributes() map[string]enumspb.IndexedValueType {
	all := map[string]enumspb.IndexedValueType{}
	for _, k := range []temporal.SearchAttributeKey{KeyAttribute, ProviderAttribute, TierAttribute, PhaseAttribute, ReasonAttribute, DeadlineAttribute} {
		all[k.GetName()] = k.GetValueType()
	}
	return all
}

// StartAttributes are the search attributes that a rotation is started with.
func StartAttributes(k rotation.Key, reason rotation.Reason) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(
		KeyAttribute.ValueSet(k.Name), ProviderAttribute.ValueSet(k.Provider), TierAttribute.ValueSet(string(k.Tier)),
		ReasonAttribute.ValueSet(string(reason)), PhaseAttribute.ValueSet(string(rotation.Prepare)))
}

// ReasonAttributes are the search attributes of what starts rotations: an emergency stands among those that it raises.
func ReasonAttributes(reason rotation.Reason) temporal.SearchAttributes {
	return temporal.NewSearchAttributes(ReasonAttribute.ValueSet(string(reason)))
}

// Priority lets an emergency pass any backlog of scheduled rotations.
func Priority(reason rotation.Reason) temporal.Priority {
	switch reason {
	case rotation.Emergency:
		return temporal.Priority{PriorityKey: 1}
	case rotation.Scheduled:
		return temporal.Priority{PriorityKey: 4}
	default:
		return temporal.Priority{PriorityKey: 3}
	}
}

// asking is for activities that only look: cheap to repeat, and somebody may be waiting for the answer.
func asking() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: 500 * time.Millisecond, BackoffCoefficient: 2, MaximumInterval: 20 * time.Second, MaximumAttempts: 5, NonRetryableErrorTypes: denied()}
}

// changing is for activities that change something and are safe to repeat.
func changing() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 30 * time.Second, MaximumAttempts: 5, NonRetryableErrorTypes: denied()}
}

// minting is for Create: each try is a decision of the workflow, because it may have to wait out the horizon.
func minting() *temporal.RetryPolicy {
	return &temporal.RetryPolicy{MaximumAttempts: 1, NonRetryableErrorTypes: denied()}
}

// denied is the failure that only a person cures, so that a policy need not try again.
func denied() []string { return []string{string(fault.AccessDenied)} }

// stallInterval is how long to wait after the n-th time that the retries of a step were used up; 0 before the first.
func stallInterval(n int) time.Duration {
	if n < 0 {
		return 0
	}
	return min(15*time.Second<<min(n, 10), 30*time.Minute)
}

// pollInterval is how long to wait before asking the n-th time for something that takes a moment.
func pollInterval(n int) time.Duration { return min(time.Second<<min(n, 10), 30*time.Second) }

// failure is a failed activity, as the workflow sees it.
type failure struct {
	class fault.Class
	text  string
	activities.Failure
}

// failed sorts the error of an activity. A worker that died is Unavailable, and nobody knows what it did.
func failed(err error) *failure {
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		f := &failure{class: fault.Class(app.Type()), text: sentence(app.Message())}
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

// waitable tells whether the same request can succeed later, perhaps after a person has granted something.
func (f *failure) waitable() bool { return f.class.Retryable() || f.class == fault.AccessDenied }

// stallsUntilDeadline is how often the retries of a step must be used up before it counts as waiting for a person.
const stallsUntilDeadline = 3

// do runs an activity until it gives an answer. Where its retries do not help, the rotation says so in its details
// and tries again and again at growing intervals; a wish to roll back ends that (ok is false, f is nil). A failure
// that waiting does not cure comes back as f.
func do[T any](r *rotator, retry *temporal.RetryPolicy, summary string, activity, in any) (out T, f *failure, ok bool) {
	for n := 0; ; n++ {
		f := r.once(retry, summary, activity, in, &out)
		if f == nil {
			r.stalled("")
			if n >= stallsUntilDeadline {
				r.noDeadline()
			}
			return out, nil, true
		}
		if !f.waitable() {
			return out, f, false
		}
		if r.stalled(f.text); n+1 >= stallsUntilDeadline {
			// A person has to grant or mend something.
			r.setDeadline()
			r.show()
		}
		if r.sleep("try again: "+summary+" (why stands under User Metadata)", stallInterval(n)) {
			return out, nil, false
		}
	}
}

// once runs an activity with its own retries only.
func (r *rotator) once(retry *temporal.RetryPolicy, summary string, activity, in, out any) *failure {
	ctx := workflow.WithActivityOptions(r.ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Duration(r.in.Key.Policy.StepTimeout),
		RetryPolicy:         retry, Summary: summary, Priority: Priority(r.in.Reason),
	})
	if err := workflow.ExecuteActivity(ctx, activity, in).Get(ctx, out); err != nil {
		return failed(err)
	}
	return nil
}
