package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// tokenMemo is the memo field that names the request which started a workflow.
const tokenMemo = "requestToken"

// Run is one rotation of a key, as Temporal keeps it.
type Run struct {
	Running bool
	// ClosedAt is when it ended.
	ClosedAt time.Time
	// Result is how; nil if it runs, or was ended from outside.
	Result *rotation.Result
}

// FindByToken returns the latest rotation of a key, and the one that was started with a Request's token; each is nil if
// Temporal remembers none, and both may be the same. It needs no worker. The latest one does not lag; one that others have
// followed comes from a list, which lags by a second. After any error it may be asked again.
func (c *Client) FindByToken(ctx context.Context, key, token string) (latest, own *Run, err error) {
	info, err := c.describe(ctx, key, "")
	if errors.Is(err, ErrNotFound) {
		return nil, nil, nil
	} else if err != nil {
		return nil, nil, err
	}
	if latest, err = runOf(info); err != nil {
		return nil, nil, err
	}
	if tokenOf(info) == token {
		return latest, latest, nil
	}
	var bad error
	err = c.list(ctx, fmt.Sprintf("WorkflowId = '%s'", workflows.ID(key)), func(info *workflowpb.WorkflowExecutionInfo) bool {
		if tokenOf(info) != token || info.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
			return true
		}
		own, bad = runOf(info)
		return false
	})
	return latest, own, errors.Join(err, bad)
}

func runOf(info *workflowpb.WorkflowExecutionInfo) (*Run, error) {
	r := &Run{Running: running(info)}
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
