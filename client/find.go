package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// tokenMemo is the memo field that names the request which started a workflow.
const tokenMemo = "requestToken"

// StartFor starts a rotation for a request that has a token of its own. ErrUnderWay: one of the key runs already. Look
// with Asked first whether there was one for this token.
func (l Client) StartFor(ctx context.Context, in workflows.Input, token string) error {
	if _, err := start(ctx, l.Temporal, Options(in), token, workflows.RotateKeyType, in); err != nil {
		return notStarted(in.Key.Name, err)
	}
	return nil
}

// Run is one rotation of a key, as Temporal keeps it.
type Run struct {
	Running bool
	// ClosedAt is when it ended.
	ClosedAt time.Time
	// Result is how; nil if it runs, or was ended from outside.
	Result *rotation.Result
}

// FindByToken returns the latest rotation of a key, and the one that was started for a token; each is nil if Temporal remembers
// none. The latest one is up to the moment. One that others have followed comes from a list, which lags by a second.
func (l Client) FindByToken(ctx context.Context, key, token string) (latest, own *Run, err error) {
	d, err := l.Temporal.DescribeWorkflowExecution(ctx, workflows.ID(key), "")
	if _, ok := errors.AsType[*serviceerror.NotFound](err); ok {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("how the rotation of %s stands cannot be read: %w", key, err)
	}
	info := d.GetWorkflowExecutionInfo()
	if latest, err = runOf(info); err != nil {
		return nil, nil, err
	}
	if tokenOf(info) == token {
		return latest, latest, nil
	}
	var bad error
	err = list(ctx, l.Temporal, fmt.Sprintf("WorkflowId = '%s'", workflows.ID(key)), func(info *workflowpb.WorkflowExecutionInfo) bool {
		if tokenOf(info) != token || info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
			return true
		}
		own, bad = runOf(info)
		return false
	})
	return latest, own, errors.Join(err, bad)
}

func runOf(info *workflowpb.WorkflowExecutionInfo) (*Run, error) {
	r := &Run{Running: info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING}
	if r.Running {
		return r, nil
	}
	r.ClosedAt = info.GetCloseTime().AsTime()
	var err error
	r.Result, err = result(info)
	return r, err
}

// tokenOf is empty where a rotation was started without a token.
func tokenOf(info *workflowpb.WorkflowExecutionInfo) (token string) {
	if p := info.GetMemo().GetFields()[tokenMemo]; p != nil {
		_ = converter.GetDefaultDataConverter().FromPayload(p, &token)
	}
	return token
}

// Status asks the latest rotation of a key about itself; see the function Status.
func (l Client) Status(ctx context.Context, key string) (rotation.Status, error) {
	return Status(ctx, l.Temporal, key)
}
