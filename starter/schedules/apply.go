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
func (c *Client) Apply(ctx context.Context, p Plan) error {
	return c.carryOut(ctx, p, []Action{Create, Update, Pause, Unpause}, func(ctx context.Context, s KeyPlan) error { return c.reconcile(ctx, *s.desired) })
}

// Prune deletes the schedules that a plan calls to be deleted. One that is gone counts as deleted.
func (c *Client) Prune(ctx context.Context, p Plan) error {
	return c.carryOut(ctx, p, []Action{Delete}, func(ctx context.Context, s KeyPlan) error { return c.remove(ctx, s.Key) })
}

func (c *Client) carryOut(ctx context.Context, p Plan, actions []Action, do func(context.Context, KeyPlan) error) error {
	var steps []KeyPlan
	for _, s := range p.Keys {
		for _, a := range actions {
			if s.Action == a {
				steps = append(steps, s)
			}
		}
	}
	failed := make([]error, len(steps))
	err := Each(ctx, len(steps), c.Progress, func(ctx context.Context, i int) error {
		failed[i] = do(ctx, steps[i])
		return ctx.Err()
	})
	return errors.Join(append(failed, err)...)
}

// reconcile brings the schedule of one key to where it is wanted.
func (c *Client) reconcile(ctx context.Context, d Desired) error {
	for range 8 {
		a, err := c.describe(ctx, d.Key.Name)
		if err != nil {
			return err
		}
		var actual Actual
		if a != nil {
			actual = *a
		}
		step, err := compare(c.Install, d, actual, a != nil, time.Now())
		if err != nil {
			return err
		}
		switch step.Action {
		case Unchanged:
			return nil
		case Blocked:
			return fmt.Errorf("%s: %w; %s", d.Key.Name, ErrBlocked, step.Notes[0])
		case Create:
			done, err := c.create(ctx, d)
			if err != nil || done {
				return err
			}
		default:
			// Temporal takes a change as a message, and drops without a word one that lost against another: the next
			// turn looks whether it was taken.
			if err := c.update(ctx, d, actual); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("the schedule of %s could not be changed: somebody else keeps changing it, or Temporal's scheduler does not run. Apply again", d.Key.Name)
}

// create makes a schedule. done is false if somebody else was faster.
func (c *Client) create(ctx context.Context, d Desired) (done bool, err error) {
	s, err := c.wanted(d, nil)
	if err != nil {
		return false, err
	}
	request := &workflowservice.CreateScheduleRequest{
		Namespace: c.Namespace, ScheduleId: workflows.ScheduleID(d.Key.Name), Schedule: s, Identity: identity, RequestId: uuid.NewString(),
		Memo: &commonpb.Memo{Fields: map[string]*commonpb.Payload{installMemo: text(c.Install)}},
	}
	_, err = retried(ctx, func(ctx context.Context) (*workflowservice.CreateScheduleResponse, error) {
		return c.Temporal.WorkflowService().CreateSchedule(ctx, request)
	})
	if _, there := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); there {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("the schedule of %s could not be created: %w", d.Key.Name, err)
	}
	return true, nil
}

// update changes a schedule, unless it changed since it was read.
func (c *Client) update(ctx context.Context, d Desired, a Actual) error {
	s, err := c.wanted(d, &a)
	if err != nil {
		return err
	}
	request := &workflowservice.UpdateScheduleRequest{
		Namespace: c.Namespace, ScheduleId: workflows.ScheduleID(d.Key.Name), Schedule: s, ConflictToken: a.token, Identity: identity, RequestId: uuid.NewString(),
	}
	_, err = retried(ctx, func(ctx context.Context) (*workflowservice.UpdateScheduleResponse, error) {
		return c.Temporal.WorkflowService().UpdateSchedule(ctx, request)
	})
	var conflict *serviceerror.FailedPrecondition
	if notFound(err) || errors.As(err, &conflict) {
		return nil
	} else if err != nil {
		return fmt.Errorf("the schedule of %s could not be changed: %w", d.Key.Name, err)
	}
	return nil
}

// wanted is the whole schedule. A pause by hand stays as it is.
func (c *Client) wanted(d Desired, a *Actual) (*schedulepb.Schedule, error) {
	s, err := schedule(c.Install, d.Key)
	if err != nil {
		return nil, err
	}
	switch {
	case a != nil && a.byHand():
		s.State.Paused, s.State.Notes = true, a.Note
	case d.Paused:
		s.State.Paused, s.State.Notes = true, pauseNote+" paused"
	}
	return s, nil
}

// remove deletes a schedule, if it is ours.
func (c *Client) remove(ctx context.Context, key string) error {
	a, err := c.describe(ctx, key)
	switch {
	case err != nil:
		return err
	case a == nil:
		return nil
	case a.Install != c.Install:
		return fmt.Errorf("%s: %w, but belongs to installation %q", key, ErrBlocked, a.Install)
	}
	_, err = retried(ctx, func(ctx context.Context) (*workflowservice.DeleteScheduleResponse, error) {
		return c.Temporal.WorkflowService().DeleteSchedule(ctx, &workflowservice.DeleteScheduleRequest{
			Namespace: c.Namespace, ScheduleId: workflows.ScheduleID(key), Identity: identity,
		})
	})
	if err != nil && !notFound(err) {
		return fmt.Errorf("the schedule of %s could not be deleted: %w", key, err)
	}
	return nil
}
