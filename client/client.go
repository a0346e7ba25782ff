// Package rotations is what a client asks of rotations: start one, see where it stands, read how it ended. The command
// line uses it, and so do the activities that start rotations for others.
package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// ErrUnderWay says that a rotation of the key runs already; nothing was started.
var ErrUnderWay = errors.New("a rotation of this key is under way")

// Options are the start options of a rotation: one of a key at a time (I6).
func Options(in workflows.Input) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
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

// Start starts a rotation. ErrUnderWay: one of the key runs already.
func Start(ctx context.Context, c client.Client, in workflows.Input) (client.WorkflowRun, error) {
	run, err := start(ctx, c, Options(in), uuid.NewString(), workflows.RotateKeyType, in)
	if err != nil {
		return nil, notStarted(in.Key.Name, err)
	}
	return run, nil
}

// Status asks the latest rotation of a key about itself. A worker must be running.
func Status(ctx context.Context, c client.Client, key string) (rotation.Status, error) {
	var s rotation.Status
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	v, err := c.QueryWorkflow(ctx, workflows.ID(key), "", workflows.StatusQuery)
	if err != nil {
		return s, err
	}
	return s, v.Get(&s)
}

// result reads the result of a closed run from its memo; nil if it was ended from outside. A run that follows another in
// the same workflow takes over its memo: that is no result of its own.
func result(info *workflowpb.WorkflowExecutionInfo) (*rotation.Result, error) {
	p := info.GetMemo().GetFields()[workflows.ResultMemo]
	if p == nil {
		return nil, nil //nolint:nilnil // it is the answer: there is none
	}
	var r rotation.Result
	if err := converter.GetDefaultDataConverter().FromPayload(p, &r); err != nil {
		return nil, fmt.Errorf("the result of %s cannot be read: %w", info.GetExecution().GetWorkflowId(), err)
	}
	if r.EndedAt.Before(info.GetStartTime().AsTime()) {
		return nil, nil //nolint:nilnil // as above
	}
	return &r, nil
}

// Closed reads from its memo, which needs no worker, how the latest rotation of a key ended. closed is false while it
// runs.
func Closed(ctx context.Context, c client.Client, key string) (res rotation.Result, closed bool, err error) {
	d, err := c.DescribeWorkflowExecution(ctx, workflows.ID(key), "")
	if err != nil {
		return res, false, err
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return res, false, nil
	}
	if r, err := result(info); err != nil || r != nil {
		if r != nil {
			res = *r
		}
		return res, true, err
	}
	ended := strings.ToLower(info.GetStatus().String())
	res.Key, res.Phase, res.EndedAt = key, rotation.Phase(ended), info.GetCloseTime().AsTime()
	res.Outcome = "It was ended from outside (" + ended + "). What it left is finished by: rekey rotate " + key + " --if-due"
	return res, true, nil
}
