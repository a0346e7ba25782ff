package client

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/workflows"
)

// Temporal answers from Temporal's own state, not from its lists, which lag.
type Client struct{ Temporal client.Client }

// Running tells since when a rotation of the key is under way. The zero time: longer than Temporal remembers.
func (l Client) Running(ctx context.Context, key string) (since time.Time, running bool, err error) {
	var gone *serviceerror.NotFound
	d, err := l.Temporal.DescribeWorkflowExecution(ctx, workflows.ID(key), "")
	if errors.As(err, &gone) {
		return since, false, nil
	} else if err != nil {
		return since, false, err
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return since, false, nil
	}
	if first := info.GetFirstRunId(); first != "" && first != info.GetExecution().GetRunId() {
		// It was continued as new, or reset: its first run began before this one.
		d, err = l.Temporal.DescribeWorkflowExecution(ctx, workflows.ID(key), first)
		if errors.As(err, &gone) {
			return time.Time{}, true, nil
		} else if err != nil {
			return since, false, err
		}
	}
	return d.GetWorkflowExecutionInfo().GetStartTime().AsTime(), true, nil
}
