package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	"go.temporal.io/api/serviceerror"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// Decide sends a decision to the rotation of a key that is running, and returns when the rotation has taken it, with how
// it stands then. It asks a worker. Under m.ID the decision is repeated while nobody answers, and counts once; an empty ID
// is filled in.
//
// A *rotation.RejectedDecision: it was not taken; its text says why, and what to send instead. ErrNotRunning: there is
// nobody to take it. ErrUnknown: it may have been taken, or may yet be; sent again with the same ID it does no harm.
func (c *Client) Decide(ctx context.Context, key string, kind rotation.DecisionKind, m rotation.DecisionMessage) (rotation.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if m.ID == "" {
		m.ID = uuid.NewString()
	}
	first := ""
	s, err := retryUnknown(ctx, func(ctx context.Context, again bool) (s rotation.Status, err error) {
		if first == "" {
			// What is meant is the rotation that runs now: another one may have begun before the request is repeated.
			d, err := c.temporal.DescribeWorkflowExecution(ctx, workflows.ID(key), "")
			if err != nil {
				return s, err
			}
			first = d.GetWorkflowExecutionInfo().GetFirstRunId()
		}
		h, err := c.temporal.UpdateWorkflow(ctx, sdkclient.UpdateWorkflowOptions{
			WorkflowID: workflows.ID(key), FirstExecutionRunID: first, UpdateID: m.ID, UpdateName: string(kind), Args: []any{m}, WaitForStage: sdkclient.WorkflowUpdateStageCompleted,
		})
		if err == nil {
			err = h.Get(ctx, &s)
		}
		if again && errors.As(err, new(*serviceerror.NotFound)) {
			return c.endedWith(ctx, key, m.ID, err)
		}
		return s, err
	})
	var app *temporal.ApplicationError
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, &app):
		return s, &rotation.RejectedDecision{Message: strings.TrimSuffix(app.Message(), ".")}
	case errors.As(err, new(*serviceerror.NotFound)):
		return s, ErrNotRunning
	case errors.Is(err, ErrUnknown):
		return s, fmt.Errorf("whether the rotation of %s has taken it is not known. %s. Is a worker running (rekey doctor)? %w", key, lookFirst(key), err)
	}
	return s, fmt.Errorf("%s could not be sent to the rotation of %s: %w", kind, key, err)
}

// endedWith looks whether the rotation that has ended meanwhile took a decision before; if not it returns otherwise.
func (c *Client) endedWith(ctx context.Context, key, id string, otherwise error) (rotation.Status, error) {
	res, closed, err := c.Result(ctx, key)
	if err != nil {
		return rotation.Status{}, fmt.Errorf("%w (%w)", ErrUnknown, err)
	}
	if !closed || !slices.ContainsFunc(res.Decisions, func(d rotation.Decision) bool { return d.ID == id }) {
		return rotation.Status{}, otherwise
	}
	return rotation.Status{Key: res.Key, Rotation: res.Rotation, Phase: res.Phase, Reason: res.Reason, Trail: res.Trail, New: res.New}, nil
}
