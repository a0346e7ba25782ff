package virtual

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// driverType is a workflow that starts in virtual time what a schedule or a person starts in production: a child shares
// the virtual clock of its parent, and a workflow that a client starts would begin at the real time.
const (
	driverType   = "driver"
	rotateUpdate = "rotate"
	beatUpdate   = "beat"
)

// taskTimeout is how long, in real time, a workflow task waits for a worker that was killed; the server's 10 s would be most
// of what a test takes.
const taskTimeout = 3 * time.Second

// order is one thing to start.
type order struct {
	// Now is the world's time; the driver catches up with it first, and then waits for After.
	Now   time.Time
	After time.Duration
	Input workflows.Input
	// Install is for a beat.
	Install string
}

// ended is how a rotation ended.
type ended struct {
	Result rotation.Result
	// Closed is what closed the workflow if it did not end by itself.
	Closed string
}

func driver(ctx workflow.Context) error {
	handle := func(name string, do any) error { return workflow.SetUpdateHandler(ctx, name, do) }
	if err := handle(rotateUpdate, func(ctx workflow.Context, o order) (out ended, err error) {
		if err := workflow.Sleep(ctx, o.Now.Sub(workflow.Now(ctx))+o.After); err != nil {
			return out, err
		}
		child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID: workflows.ID(o.Input.Key.Name), TaskQueue: workflows.ProviderTaskQueue(o.Input.Key.Provider),
			ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, WorkflowTaskTimeout: taskTimeout, TypedSearchAttributes: workflows.StartAttributes(o.Input.Key, o.Input.Reason),
		})
		if err := workflow.ExecuteChildWorkflow(child, workflows.RotateKeyType, o.Input).Get(child, &out.Result); err != nil {
			out.Closed = err.Error()
			return out, nil //nolint:nilerr // the answer says so
		}
		// The clock of a child goes on alone.
		return out, workflow.Sleep(ctx, out.Result.EndedAt.Sub(workflow.Now(ctx)))
	}); err != nil {
		return err
	}
	if err := handle(beatUpdate, func(ctx workflow.Context, o order) error {
		if err := workflow.Sleep(ctx, o.Now.Sub(workflow.Now(ctx))+o.After); err != nil {
			return err
		}
		child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: workflows.DispatchID(o.Input.Key.Name), TaskQueue: workflows.TaskQueue})
		return workflow.ExecuteChildWorkflow(child, workflows.DispatchType, workflows.DispatchInput{Key: o.Input.Key, Install: o.Install}).Get(child, nil)
	}); err != nil {
		return err
	}
	if err := workflow.Await(ctx, func() bool {
		return workflow.GetInfo(ctx).GetContinueAsNewSuggested() && workflow.AllHandlersFinished(ctx)
	}); err != nil {
		return err
	}
	return workflow.NewContinueAsNewError(ctx, driverType)
}
