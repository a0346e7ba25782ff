package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// ErrNoEmergency says that Temporal knows no emergency of that id.
var ErrNoEmergency = errors.New("there is no emergency of this id")

// StartEmergency starts an emergency over many keys. The same input may be sent again, also after it has ended: there is
// one emergency of an id.
func StartEmergency(ctx context.Context, c client.Client, in workflows.EmergencyInput) error {
	_, err := start(ctx, c, client.StartWorkflowOptions{
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
		return fmt.Errorf("whether the emergency %s has begun is not known. Look before you start another one: rekey emergency --resume %s. %w", in.ID, in.ID, err)
	} else if err != nil {
		return fmt.Errorf("the emergency %s could not be started: %w", in.ID, err)
	}
	return nil
}

// EmergencyProgress tells how an emergency stands. closed: it has ended. A worker must be running unless it has ended by
// itself. ErrNoEmergency: there is none of this id.
func EmergencyProgress(ctx context.Context, c client.Client, id string) (f workflows.EmergencyProgress, closed bool, err error) {
	d, err := c.DescribeWorkflowExecution(ctx, workflows.EmergencyID(id), "")
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return f, false, ErrNoEmergency
	} else if err != nil {
		return f, false, fmt.Errorf("how the emergency %s stands cannot be read: %w", id, err)
	}
	info := d.GetWorkflowExecutionInfo()
	status := info.GetStatus()
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		if err := c.GetWorkflow(ctx, workflows.EmergencyID(id), info.GetExecution().GetRunId()).Get(ctx, &f); err != nil {
			return f, true, fmt.Errorf("the result of the emergency %s cannot be read: %w", id, err)
		}
		return f, true, nil
	}
	if status == enumspb.WORKFLOW_EXECUTION_STATUS_FAILED {
		return f, true, fmt.Errorf("the emergency %s was not taken: %w", id, c.GetWorkflow(ctx, workflows.EmergencyID(id), info.GetExecution().GetRunId()).Get(ctx, nil))
	}
	limited, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := c.QueryWorkflow(limited, workflows.EmergencyID(id), info.GetExecution().GetRunId(), workflows.ProgressQuery)
	if err != nil {
		return f, false, fmt.Errorf("the emergency %s does not answer; is a worker running on the task queue %s? (rekey doctor): %w", id, workflows.TaskQueue, err)
	}
	if err := v.Get(&f); err != nil {
		return f, false, fmt.Errorf("how the emergency %s stands cannot be read: %w", id, err)
	}
	if closed = status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING; closed {
		f.Outcome = "It was ended from outside (" + strings.ToLower(status.String()) + "); rotations that had begun go on."
	}
	return f, closed, nil
}
