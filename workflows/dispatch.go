package workflows

import (
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// SchedulePrefix begins the ids of all schedules of rekey.
const SchedulePrefix = "rekey/"

// ScheduleID is the id of the Temporal Schedule of a key.
func ScheduleID(key string) string { return SchedulePrefix + key }

// DispatchID is the workflow id that the schedule of a key gives its dispatchers; Temporal appends the time of the beat.
func DispatchID(key string) string { return "dispatch/" + key }

// beatAttribute is when the schedule meant to start a workflow. Temporal sets it.
var beatAttribute = temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")

// dispatchTimeout is how long a dispatcher asks again when provider or stores do not answer. It is less than a day, so
// that the next beat finds it ended.
const dispatchTimeout = time.Hour

// A beat that comes later than lateFrom is one of many that an outage has held up; they are spread over spreadOver.
const (
	lateFrom   = time.Minute
	spreadOver = 10 * time.Minute
)

// DispatchInput is what a schedule starts a dispatcher with.
type DispatchInput struct {
	Key rotation.Key `json:"key"`
	// Install is the installation whose rekey.yaml has the key.
	Install string `json:"install"`

	received received
}

// Dispatched is what came of a beat. It is the dispatcher's result, and in its memo.
type Dispatched struct {
	Key string `json:"key"`
	// Beat is when the schedule meant to ask; zero if a person started the dispatcher.
	Beat    time.Time        `json:"beat,omitzero"`
	Verdict rotation.Verdict `json:"verdict"`
	// Started: this beat started a rotation. UnderWay: one was under way already.
	Started  bool `json:"started"`
	UnderWay bool `json:"underWay,omitempty"`
	// Why says in a sentence what was done, and why.
	Why string `json:"why"`
}

// Dispatch asks whether a key is due, and starts its rotation if it is. A schedule cannot start `rotate/<key>` itself,
// because Temporal appends a time to whatever id it starts, and then nothing would keep two rotations apart. It ends
// when the rotation has begun, and fails, for the schedule's list to show, when nobody can say whether the key is due.
// A beat that comes late, after the key's window, does nothing: the next one in the window takes it.
func Dispatch(ctx workflow.Context, in DispatchInput) (Dispatched, error) {
	if err := in.received.check(ctx, maxInput, false); err != nil {
		return Dispatched{}, err
	}
	d := &dispatcher{ctx: ctx, in: in, Dispatched: Dispatched{Key: in.Key.Name}}
	d.Beat, _ = workflow.GetTypedSearchAttributes(ctx).GetTime(beatAttribute)
	d.ignored = ignoreSignals(ctx, d.refreshDetails)
	return d.run()
}

// dispatcher is one run of Dispatch.
type dispatcher struct {
	Dispatched
	ctx     workflow.Context
	in      DispatchInput
	ignored *ignoredSignals
}

// refreshDetails puts what happens, and a key in the history, where the Temporal UI shows it.
func (d *dispatcher) refreshDetails() {
	page := details.Dispatch{Key: d.in.Key.Name, Workflow: ID(d.in.Key.Name), Why: d.Why, Leak: d.ignored.text()}
	workflow.SetCurrentDetails(d.ctx, page.Render())
}

func (d *dispatcher) run() (Dispatched, error) {
	d.refreshDetails()
	if err := d.spread(); err != nil {
		return d.Dispatched, err
	}
	due, err := d.ask()
	if err != nil {
		return d.Dispatched, err
	}
	d.Verdict = due.Verdict
	if due.Verdict.Work == rotation.Nothing {
		d.Why = "No rotation: " + due.Verdict.Message
	} else if err := d.start(); err != nil {
		return d.Dispatched, err
	}
	return d.finish()
}

// spread waits a little when the beat comes late: after an outage the beats of all keys come in one second.
func (d *dispatcher) spread() error {
	if d.Beat.IsZero() || workflow.Now(d.ctx).Sub(d.Beat) < lateFrom {
		return nil
	}
	return workflow.NewTimerWithOptions(d.ctx, rotation.Spread(d.in.Install, d.in.Key.Name, spreadOver), workflow.TimerOptions{
		Summary: "the scheduled run is late, as are those of other keys: spread them out",
	}).Get(d.ctx, nil)
}

// ask asks provider and stores. It is advice: the rotation looks again, under the key's workflow id.
func (d *dispatcher) ask() (activities.Dueness, error) {
	ctx := workflow.WithActivityOptions(d.ctx, workflow.ActivityOptions{
		TaskQueue: ProviderTaskQueue(d.in.Key.Provider), Summary: details.Escape("check whether " + d.in.Key.Name + " is due"), Priority: Priority(rotation.Scheduled),
		StartToCloseTimeout: time.Duration(d.in.Key.Policy.StepTimeout), ScheduleToCloseTimeout: dispatchTimeout, RetryPolicy: dispatchRetry(),
	})
	var due activities.Dueness
	err := workflow.ExecuteActivity(ctx, activities.DueName, activities.DueInput{Key: d.in.Key, Install: d.in.Install, Beat: d.Beat}).Get(ctx, &due)
	if err == nil || temporal.IsCanceledError(err) {
		return due, err
	}
	f := classify(err)
	return due, temporal.NewNonRetryableApplicationError(d.ignored.addTo("It could not be determined whether "+d.in.Key.Name+" is due; the next scheduled run asks again. "+f.text), string(f.class), nil)
}

// dispatchRetry is for asking whether a key is due: nobody waits for the answer.
func dispatchRetry() *temporal.RetryPolicy {
	// The patience ends before the attempts do.
	return &temporal.RetryPolicy{InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 5 * time.Minute, MaximumAttempts: 25, NonRetryableErrorTypes: needsAPerson}
}

// start starts the rotation, which outlives the dispatcher. An already running one counts as success.
func (d *dispatcher) start() error {
	in := Input{Key: d.in.Key, Reason: rotation.Scheduled, By: "schedule " + ScheduleID(d.in.Key.Name), Why: d.Verdict.Message}
	// A cancel of the dispatcher must not take the rotation with it.
	ctx, _ := workflow.NewDisconnectedContext(d.ctx)
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: ID(in.Key.Name), TaskQueue: ProviderTaskQueue(in.Key.Provider),
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		TypedSearchAttributes: StartAttributes(in.Key, in.Reason), Priority: Priority(in.Reason),
		StaticSummary: StaticSummary(in), StaticDetails: StaticDetails(in),
	})
	err := workflow.ExecuteChildWorkflow(ctx, RotateKeyType, in).GetChildWorkflowExecution().Get(ctx, nil)
	switch {
	case err == nil:
		d.Started, d.Why = true, "Rotation started: "+d.Verdict.Message
	case temporal.IsWorkflowExecutionAlreadyStartedError(err):
		d.UnderWay, d.Why = true, "A rotation is under way already. "+d.Verdict.Message
	default:
		return fmt.Errorf("the rotation of %s could not be started: %w", in.Key.Name, err)
	}
	return nil
}

// finish puts the result where it can be read without a worker, and where the Temporal UI shows it.
func (d *dispatcher) finish() (Dispatched, error) {
	d.refreshDetails()
	d.Why = d.ignored.addTo(d.Why)
	_ = workflow.UpsertMemo(d.ctx, map[string]any{ResultMemo: d.Dispatched})
	return d.Dispatched, nil
}
