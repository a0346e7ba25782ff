package keyyears

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// lifeInput says how long a key lives.
type lifeInput struct {
	Key  rotation.Key
	Span time.Duration
	// Beats: the key's schedule beats every day, as in production. Otherwise a rotation is started when it is due.
	Beats   bool
	Install string
	// Began is when the life began; zero at its beginning.
	Began time.Time
	So    lived
}

// lived is what a key has lived through.
type lived struct {
	Rotations, RolledBack, Beats int
	Lived                        time.Duration
	// NotDue says why rotations that were started changed nothing.
	NotDue    []string
	FollowUps []string
}

const lifeType = "life"

// life is a key's life: whatever starts rotations in production starts them here, in virtual time. Its rotations are
// children, because these share the virtual clock of their parent.
func life(ctx workflow.Context, in lifeInput) (lived, error) {
	if in.Began.IsZero() {
		in.Began = workflow.Now(ctx)
	}
	out := &in.So
	for workflow.Now(ctx).Sub(in.Began) < in.Span {
		if workflow.GetInfo(ctx).GetContinueAsNewSuggested() {
			return lived{}, workflow.NewContinueAsNewError(ctx, lifeType, in)
		}
		next := time.Duration(in.Key.Policy.Period) + time.Hour
		if in.Beats {
			next = 24 * time.Hour
		}
		if err := workflow.Sleep(ctx, next); err != nil {
			return *out, err
		}
		if in.Beats {
			if err := beat(ctx, in); err != nil {
				return *out, err
			}
			out.Beats++
			continue
		}
		child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID: workflows.ID(in.Key.Name), TaskQueue: workflows.ProviderTaskQueue(in.Key.Provider),
			ParentClosePolicy: enumspb.PARENT_CLOSE_POLICY_ABANDON, TypedSearchAttributes: workflows.StartAttributes(in.Key, rotation.Scheduled),
		})
		var res rotation.Result
		rotate := workflows.Input{Key: in.Key, Reason: rotation.Scheduled, By: lifeType}
		if out.Rotations == 0 {
			rotate.Reason = rotation.Manual // nobody may know how old the first key is
		}
		if err := workflow.ExecuteChildWorkflow(child, workflows.RotateKeyType, rotate).Get(child, &res); err != nil {
			return *out, err
		}
		if res.NotDue {
			out.NotDue = append(out.NotDue, res.Outcome)
		} else {
			out.Rotations++
		}
		if res.Phase == rotation.RolledBack {
			out.RolledBack++
		}
		out.FollowUps = append(out.FollowUps, res.FollowUps...)
		// The clock of a child goes on alone.
		if behind := res.EndedAt.Sub(workflow.Now(ctx)); behind > 0 {
			if err := workflow.Sleep(ctx, behind); err != nil {
				return *out, err
			}
		}
	}
	out.Lived = workflow.Now(ctx).Sub(in.Began)
	return *out, nil
}

// beat is one beat of the key's schedule.
func beat(ctx workflow.Context, in lifeInput) error {
	child := workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: workflows.DispatchID(in.Key.Name), TaskQueue: workflows.TaskQueue})
	return workflow.ExecuteChildWorkflow(child, workflows.DispatchType, workflows.DispatchInput{Key: in.Key, Install: in.Install}).Get(child, nil)
}
