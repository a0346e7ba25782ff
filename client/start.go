package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// Request asks for a rotation.
type Request struct {
	// Key is the key as rekey.yaml describes it. The rotation goes by this description to its end.
	Key rotation.Key
	// Reason is why it is rotated; empty means rotation.Manual. With rotation.Scheduled it does only what is due: it
	// rotates an old key, or finishes what an earlier rotation left. For an emergency there is Raise.
	Reason rotation.Reason
	// By and Why are for those who read the history. By is a claim.
	By, Why string
	// Token names the request where it has a name of its own, so that FindByToken finds the rotation again. Two requests
	// with one token are still two; empty means a token that nobody else has.
	Token string
}

// Start starts a rotation and returns when Temporal has it; a worker takes it up when there is one. What it returns holds
// the workflow's id and run id; wait for its end with Wait, which misses no answer.
//
// ErrRunning: one of the key is running already. ErrUnknown: it may have begun. A lost answer starts no second rotation:
// Start looks for its own before it repeats the request.
func (c *Client) Start(ctx context.Context, r Request) (sdkclient.WorkflowRun, error) {
	in := workflows.Input{Key: r.Key, Reason: cmp.Or(r.Reason, rotation.Manual), By: r.By, Why: r.Why}
	run, err := c.start(ctx, options(in), cmp.Or(r.Token, uuid.NewString()), workflows.RotateKeyType, in)
	if err != nil {
		return nil, notStarted(in.Key.Name, err)
	}
	return run, nil
}

// StartIfDue is Start of a rotation that does only what is due. It is for a cron job: while the key is fresh it ends at
// once, with a Result that says NotDue.
func (c *Client) StartIfDue(ctx context.Context, k rotation.Key, by, why string) (sdkclient.WorkflowRun, error) {
	return c.Start(ctx, Request{Key: k, Reason: rotation.Scheduled, By: by, Why: why})
}

// StartManual is Start for those to whom a rotation that is running already is as good as a new one: then started is
// false, and there is no error.
func (c *Client) StartManual(ctx context.Context, k rotation.Key, by, why string) (started bool, err error) {
	_, err = c.Start(ctx, Request{Key: k, By: by, Why: why})
	if errors.Is(err, ErrRunning) {
		return false, nil
	}
	return err == nil, err
}

// options are the start options of a rotation: one of a key at a time (I6).
func options(in workflows.Input) sdkclient.StartWorkflowOptions {
	return sdkclient.StartWorkflowOptions{
		ID: workflows.ID(in.Key.Name), TaskQueue: workflows.ProviderTaskQueue(in.Key.Provider),
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		TypedSearchAttributes:                    workflows.StartAttributes(in.Key, in.Reason),
		Priority:                                 workflows.Priority(in.Reason),
		StaticSummary:                            workflows.StaticSummary(in),
		StaticDetails:                            workflows.StaticDetails(in),
	}
}

// acceptance is how long to wait for a worker to take an emergency. An Update is durable only then; a Signal is at once.
const acceptance = 5 * time.Second

// Raise starts an emergency rotation of one key, or turns the one that is running into one. When it returns nil, Temporal
// keeps it, whether a worker is there or not. m says what leaked; m.ID must be set, and under one id the emergency counts
// once, however often it is raised. ErrUnknown: raise it again, with the same id.
//
// For several keys, and to follow how it goes, there is StartEmergency.
func (c *Client) Raise(ctx context.Context, k rotation.Key, m rotation.DecisionMessage) error {
	in := workflows.Input{Key: k, Reason: rotation.Emergency, By: m.By, Why: m.Why, Emergencies: []rotation.Decision{{DecisionMessage: m}}}
	o := options(in)
	o.WorkflowIDConflictPolicy = enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	o.WorkflowExecutionErrorWhenAlreadyStarted = false
	name := string(rotation.RaiseEmergency)
	// An Update waits for a worker, and a worker that is asked by thousands at once answers none of them in time. A Signal
	// waits for nobody, and what the rotation would refuse is known here as well.
	asks := updates.TryAcquire(1)
	if asks {
		defer updates.Release(1)
	} else {
		if err := (rotation.DecisionContext{}).Check(rotation.RaiseEmergency, m); err != nil {
			return fmt.Errorf("the rotation of %s does not take the emergency: %w", k.Name, err)
		}
		done, err := queue(ctx)
		if err != nil {
			return fmt.Errorf("the emergency of %s was not sent: %w", k.Name, err)
		}
		defer done()
	}

	_, err := retryUnknown(ctx, func(ctx context.Context, again bool) (struct{}, error) {
		if again {
			// Its rotation may have ended since; the same message would begin another one. That is the lesser evil where it
			// cannot be seen.
			if s, err := c.Latest(ctx, k.Name); err == nil && s.Served(m.ID) {
				return struct{}{}, nil
			}
		}
		if again || !asks {
			// Temporal keeps a Signal also while no worker answers. Whichever of the two messages comes second is a repetition.
			_, err := c.temporal.SignalWithStartWorkflow(ctx, o.ID, name, m, o, workflows.RotateKeyType, in)
			return struct{}{}, err
		}
		limited, cancel := context.WithTimeout(ctx, acceptance)
		defer cancel()
		_, err := c.temporal.UpdateWithStartWorkflow(limited, sdkclient.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: c.temporal.NewWithStartWorkflowOperation(o, workflows.RotateKeyType, in),
			UpdateOptions: sdkclient.UpdateWorkflowOptions{
				UpdateID: m.ID, WorkflowID: o.ID, UpdateName: name, Args: []any{m}, WaitForStage: sdkclient.WorkflowUpdateStageAccepted,
			},
		})
		if err != nil && !errors.As(err, new(*temporal.ApplicationError)) {
			err = fmt.Errorf("%w (%w)", ErrUnknown, err) // whatever it is, a signal may pass
		}
		return struct{}{}, err
	})
	if app, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return fmt.Errorf("the rotation of %s does not take the emergency: %s", k.Name, app.Message())
	} else if errors.Is(err, ErrUnknown) {
		return fmt.Errorf("whether the rotation of %s knows of the emergency is not known. %s. %w", k.Name, lookFirst(k.Name), err)
	} else if err != nil {
		return fmt.Errorf("the emergency of %s could not be sent: %w", k.Name, err)
	}
	return nil
}
