package workflows

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows/details"
)

// NotifyInput is for Notify.
type NotifyInput struct {
	activities.Target
	// Workflow is the id of the rotation that the notification is about.
	Workflow     string                `json:"workflow"`
	Notification rotation.Notification `json:"notification"`
	Channels     []rotation.Channel    `json:"channels"`
	// Urgent: quiet hours do not count.
	Urgent bool `json:"urgent,omitempty"`

	received received
}

// NotifyID is the id of the workflow that notifies of a rotation's end.
func NotifyID(key, rotation string) string { return "notify/" + key + "-" + rotation }

// Notify sends one notification to channels, to each as soon as its hours begin, and returns the deliveries. It does not
// fail: what could not be delivered is in its result.
func Notify(ctx workflow.Context, in NotifyInput) ([]rotation.Delivery, error) {
	if err := in.received.check(ctx, maxInput, false); err != nil {
		return nil, err
	}
	ignored := ignoreSignals(ctx, func() {})
	deliveries := make([]rotation.Delivery, len(in.Channels))
	all := workflow.NewWaitGroup(ctx)
	for i, c := range in.Channels {
		all.Add(1)
		workflow.Go(ctx, func(ctx workflow.Context) {
			defer all.Done()
			deliveries[i] = rotation.Delivery{Channel: c.Name}
			now := workflow.Now(ctx)
			if at := openingTime(ctx, c, now); at.After(now) && !in.Urgent {
				summary := workflow.TimerOptions{Summary: details.Escape(c.Name + " is quiet until " + details.Moment(at))}
				if workflow.NewTimerWithOptions(ctx, at.Sub(now), summary).Get(ctx, nil) != nil {
					deliveries[i].Problem = "somebody cancelled it"
					return
				}
			}
			err := workflow.ExecuteActivity(notifyContext(ctx, in.Notification.Reason, c.Name, in.Notification.Event), activities.NotifyName, activities.NotifyInput{
				Target: in.Target, Channel: c.Name, Notification: in.Notification, Workflow: in.Workflow,
			}).Get(ctx, nil)
			deliveries[i] = deliveryResult(deliveries[i], in.Notification.Event, workflow.Now(ctx), err)
		})
	}
	all.Wait(ctx)
	workflow.SetCurrentDetails(ctx, details.End{Deliveries: deliveries, Leak: ignored.text()}.Render())
	return deliveries, nil
}

// startNotify starts Notify and does not wait for what becomes of it.
func startNotify(ctx workflow.Context, in NotifyInput) {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID: NotifyID(in.Key.Name, in.Rotation), TaskQueue: ProviderTaskQueue(in.Key.Provider),
		ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, Priority: Priority(in.Notification.Reason),
		StaticSummary: details.Escape("notify that a rotation of " + in.Key.Name + " ended"),
	})
	if err := workflow.ExecuteChildWorkflow(ctx, NotifyType, in).GetChildWorkflowExecution().Get(ctx, nil); err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		// The rotation has ended all the same; its result and the list say so.
		workflow.GetLogger(ctx).Warn("Nobody is notified of the rotation's end", "key", in.Key.Name, "rotation", in.Rotation, "error", err)
	}
}

// notifyContext is a context for the activity Notify. Where a channel is down it is tried for about half an hour.
func notifyContext(ctx workflow.Context, reason rotation.Reason, channel string, about rotation.Event) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		Summary: details.Escape("notify " + channel + ": " + string(about)), StartToCloseTimeout: notifyTimeout, Priority: Priority(reason),
		RetryPolicy: &temporal.RetryPolicy{InitialInterval: 5 * time.Second, BackoffCoefficient: 3, MaximumInterval: 5 * time.Minute, MaximumAttempts: 10, NonRetryableErrorTypes: needsAPerson},
	})
}

// notifyTimeout is longer than a request to a channel may take.
const notifyTimeout = 20 * time.Second
