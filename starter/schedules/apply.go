package schedules

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	commonpb "go.temporal.io/api/common/v1"
	schedulepb "go.temporal.io/api/schedule/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/rekeyhq/rekey/workflows"
)

// identity is who changes schedules, for those who read their history.
const identity = "rekey apply"

// ErrBlocked says that a schedule belongs to somebody else; it was not touched.
var ErrBlocked = errors.New("the schedule is not ours")

// Apply takes the steps of a plan but for deletions. Every schedule is read again just before, so that what somebody
// else did meanwhile counts; when two apply at once both end in the same state. Taken again it changes nothing.
// Several keys can fail; the others are done all the same.
func (f *Client) Apply(ctx context.Context, p Plan) error {
	return f.carryOut(ctx, p, []Action{Create, Update, Pause, Unpause}, func(ctx context.Context, s KeyPlan) error { return f.reconcile(ctx, *s.want) })
}

// Prune deletes the schedules that a plan calls to be deleted. One that is gone is as good.
func (f *Client) Prune(ctx context.Context, p Plan) error {
	return f.carryOut(ctx, p, []Action{Delete}, func(ctx context.Context, s KeyPlan) error { return f.remove(ctx, s.Key) })
}

func (f *Client) carryOut(ctx context.Context, p Plan, actions []Action, do func(context.Context, KeyPlan) error) error {
	var steps []KeyPlan
	for _, s := range p.Keys {
		for _, a := range actions {
			if s.Action == a {
				steps = append(steps, s)
			}
		}
	}
	failed := make([]error, len(steps))
	err := Each(ctx, len(steps), f.Progress, func(ctx context.Context, i int) error {
		failed[i] = do(ctx, steps[i])
		return ctx.Err()
	})
	return errors.Join(append(failed, err)...)
}

// reconcile brings the schedule of one key to where it is wanted.
func (f *Client) reconcile(ctx context.Context, w Desired) error {
	for range 8 {
		h, err := f.describe(ctx, w.Key.Name)
		if err != nil {
			return err
		}
		var have Actual
		if h != nil {
			have = *h
		}
		step, err := compare(f.Install, w, have, h != nil, time.Now())
		if err != nil {
			return err
		}
		switch step.Action {
		case Unchanged:
			return nil
		case Blocked:
			return fmt.Errorf("%s: %w; %s", w.Key.Name, ErrBlocked, step.Notes[0])
		case Create:
			done, err := f.create(ctx, w)
			if err != nil || done {
				return err
			}
		default:
			// Temporal takes a change as a message, and drops without a word one that lost against another: the next
			// turn looks whether it was taken.
			if err := f.update(ctx, w, have); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the schedule of %s could not be changed: somebody else keeps changing it, or Temporal's scheduler does not run. Apply again", w.Key.Name)
}

// create makes a schedule. done is false if somebody else was faster.
func (f *Client) create(ctx context.Context, w Desired) (done bool, err error) {
	s, err := f.wanted(w, nil)
	if err != nil {
		return false, err
	}
	request := &workflowservice.CreateScheduleRequest{
		Namespace: f.Namespace, ScheduleId: workflows.ScheduleID(w.Key.Name), Schedule: s, Identity: identity, RequestId: uuid.NewString(),
		Memo: &commonpb.Memo{Fields: map[string]*commonpb.Payload{installMemo: text(f.Install)}},
	}
	_, err = retried(ctx, func(ctx context.Context) (*workflowservice.CreateScheduleResponse, error) {
		return f.Client.WorkflowService().CreateSchedule(ctx, request)
	})
	if _, there := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); there {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("the schedule of %s could not be created: %w", w.Key.Name, err)
	}
	return true, nil
}

// update changes a schedule, unless it changed since it was read.
func (f *Client) update(ctx context.Context, w Desired, h Actual) error {
	s, err := f.wanted(w, &h)
	if err != nil {
		return err
	}
	request := &workflowservice.UpdateScheduleRequest{
		Namespace: f.Namespace, ScheduleId: workflows.ScheduleID(w.Key.Name), Schedule: s, ConflictToken: h.token, Identity: identity, RequestId: uuid.NewString(),
	}
	_, err = retried(ctx, func(ctx context.Context) (*workflowservice.UpdateScheduleResponse, error) {
		return f.Client.WorkflowService().UpdateSchedule(ctx, request)
	})
	var conflict *serviceerror.FailedPrecondition
	if notFound(err) || errors.As(err, &conflict) {
		return nil
	} else if err != nil {
		return fmt.Errorf("the schedule of %s could not be changed: %w", w.Key.Name, err)
	}
	return nil
}

// wanted is the whole schedule. A pause by hand stays as it is.
func (f *Client) wanted(w Desired, h *Actual) (*schedulepb.Schedule, error) {
	s, err := schedule(f.Install, w.Key)
	if err != nil {
		return nil, err
	}
	switch {
	case h != nil && h.byHand():
		s.State.Paused, s.State.Notes = true, h.Note
	case w.Paused:
		s.State.Paused, s.State.Notes = true, pauseNote+" paused"
	}
	return s, nil
}

// remove deletes a schedule, if it is ours.
func (f *Client) remove(ctx context.Context, key string) error {
	h, err := f.describe(ctx, key)
	switch {
	case err != nil:
		return err
	case h == nil:
		return nil
	case h.Install != f.Install:
		return fmt.Errorf("%s: %w, but belongs to installation %q", key, ErrBlocked, h.Install)
	}
	_, err = retried(ctx, func(ctx context.Context) (*workflowservice.DeleteScheduleResponse, error) {
		return f.Client.WorkflowService().DeleteSchedule(ctx, &workflowservice.DeleteScheduleRequest{
			Namespace: f.Namespace, ScheduleId: workflows.ScheduleID(key), Identity: identity,
		})
	})
	if err != nil && !notFound(err) {
		return fmt.Errorf("the schedule of %s could not be deleted: %w", key, err)
	}
	return nil
}
