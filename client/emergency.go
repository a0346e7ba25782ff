package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// StartEmergency starts an emergency over the keys that in names, and returns when Temporal has it; a worker takes it up
// when there is one. The same input may be sent again, also after it has ended: there is one emergency of an id.
//
// ErrUnknown: it may have begun; sent again with the same id it does no harm.
func (c *Client) StartEmergency(ctx context.Context, in workflows.EmergencyInput) error {
	_, err := c.start(ctx, sdkclient.StartWorkflowOptions{
		ID: workflows.EmergencyID(in.ID), TaskQueue: workflows.TaskQueue,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		Priority:                 workflows.Priority(rotation.Emergency),
		TypedSearchAttributes:    workflows.ReasonAttributes(rotation.Emergency),
		StaticSummary:            workflows.EmergencySummary(in),
		StaticDetails:            workflows.EmergencyDetails(in),
	}, uuid.NewString(), workflows.EmergencyType, in)
	if _, ok := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); ok {
		return nil
	} else if errors.Is(err, ErrUnknown) {
		return fmt.Errorf("it is not known whether the emergency %s has begun. Look before you start another one: rekey emergency --resume %s. %w", in.ID, in.ID, err)
	} else if err != nil {
		return fmt.Errorf("the emergency %s could not be started: %w", in.ID, err)
	}
	return nil
}

// EmergencyProgress says how an emergency stands, key by key. ended: it has ended, also from outside or because its input
// was refused, which is an error. It asks a worker, unless the emergency has ended by itself.
//
// ErrNotFound: there is none of this id. Reading changes nothing, so after any other error it may be asked again.
func (c *Client) EmergencyProgress(ctx context.Context, id string) (f workflows.EmergencyProgress, ended bool, err error) {
	d, err := c.temporal.DescribeWorkflowExecution(ctx, workflows.EmergencyID(id), "")
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return f, false, fmt.Errorf("no emergency %s: %w", id, ErrNotFound)
	} else if err != nil {
		return f, false, fmt.Errorf("the state of the emergency %s cannot be read: %w", id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	status := info.GetStatus()
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		if err := c.temporal.GetWorkflow(ctx, workflows.EmergencyID(id), info.GetExecution().GetRunId()).Get(ctx, &f); err != nil {
			return f, true, fmt.Errorf("the result of the emergency %s cannot be read: %w", id, err)
		}
		return f, true, nil
	}
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_FAILED {
		return f, true, fmt.Errorf("the emergency %s was not taken: %w", id, c.temporal.GetWorkflow(ctx, workflows.EmergencyID(id), info.GetExecution().GetRunId()).Get(ctx, nil))
	}
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	v, err := c.temporal.QueryWorkflow(limited, workflows.EmergencyID(id), info.GetExecution().GetRunId(), workflows.ProgressQuery)
	if err != nil {
		if ctx.Err() == nil && noWorker(limited, err) {
			err = fmt.Errorf("%w (%w)", ErrNoWorker, err)
		}
		return f, false, fmt.Errorf("the emergency %s does not answer; is a worker running on the task queue %s? (rekey doctor): %w", id, workflows.TaskQueue, err)
	}
	if err := v.Get(&f); err != nil {
		return f, false, fmt.Errorf("the state of the emergency %s cannot be read: %w", id, err)
	}
	if ended = status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING; ended {
		f.Outcome = "It was ended from outside (" + strings.ToLower(status.String()) + "); rotations that had begun go on."
	}
	return f, ended, nil
}

// WaitEmergency waits until an emergency has ended, and says how. That not every key is done is no error: see its Complete.
//
// ErrNotFound: there is none of this id. ErrTerminated: it was terminated from outside; rotations that had begun go on.
// Waiting changes nothing, so after any other error it may be waited for again.
func (c *Client) WaitEmergency(ctx context.Context, id string) (f workflows.EmergencyProgress, err error) {
	err = c.WaitRun(ctx, workflows.EmergencyID(id), "", &f)
	switch {
	case err == nil:
		return f, nil
	case errors.As(err, new(*serviceerror.NotFound)):
		return f, fmt.Errorf("no emergency %s: %w", id, ErrNotFound)
	case errors.As(err, new(*temporal.TerminatedError)), errors.As(err, new(*temporal.CanceledError)), errors.As(err, new(*temporal.TimeoutError)):
		return f, fmt.Errorf("the emergency %s has no result: %w (%w)", id, ErrTerminated, err)
	}
	return f, fmt.Errorf("the end of the emergency %s: %w", id, err)
}
