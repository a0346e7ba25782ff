package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// StartTrigger gives the delivery of a webhook to Temporal, which keeps it; a worker takes it up when there is one. taken
// is false if Temporal has this delivery already, also one that has ended: a delivery counts once.
//
// ErrUnknown: it may have been taken; given again it does no harm.
func (c *Client) StartTrigger(ctx context.Context, in workflows.TriggerInput) (taken bool, err error) {
	reason := rotation.Manual
	if in.Leaked {
		reason = rotation.Emergency
	}
	_, err = c.start(ctx, sdkclient.StartWorkflowOptions{
		ID: workflows.TriggerID(in.Source, in.Delivery), TaskQueue: workflows.TaskQueue,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		Priority:                                 workflows.Priority(reason),
		TypedSearchAttributes:                    workflows.ReasonAttributes(reason),
		StaticSummary:                            fmt.Sprintf("%s, asked by webhook %s", reason, in.Source),
		StaticDetails:                            workflows.TriggerDetails(in),
	}, uuid.NewString(), workflows.TriggerType, in)
	if _, ok := errors.AsType[*serviceerror.WorkflowExecutionAlreadyStarted](err); ok {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("the delivery %s of %s could not be given to Temporal: %w", in.Delivery, in.Source, err)
	}
	return true, nil
}
