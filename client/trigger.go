package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// StartTrigger returns a delivery to Temporal, which keeps it. taken is false if it has this delivery already, also one
// that has ended.
func StartTrigger(ctx context.Context, c client.Client, in workflows.TriggerInput) (taken bool, err error) {
	reason := rotation.Manual
	if in.Leaked {
		reason = rotation.Emergency
	}
	_, err = start(ctx, c, client.StartWorkflowOptions{
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
