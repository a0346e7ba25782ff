package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// ErrNoRotation: no rotation of the key is under way that could take a decision.
var ErrNoRotation = errors.New("no rotation of this key is under way")

// Decide sends a decision as an Update and waits until it is taken or refused. m.ID must be set: under it the decision is
// repeated while nobody answers, and counts once. A *rotation.Refusal says why it was not taken, and ErrNoRotation that there
// is nobody to take it. ErrUnknown: it may have been taken, or may yet.
func Decide(ctx context.Context, c client.Client, key string, kind rotation.DecisionKind, m rotation.DecisionMessage) (rotation.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	first := ""
	s, err := retryUnknown(ctx, func(ctx context.Context, again bool) (s rotation.Status, err error) {
		if first == "" {
			// What is meant is the rotation that runs now: another one may have begun before the request is repeated.
			d, err := c.DescribeWorkflowExecution(ctx, workflows.ID(key), "")
			if err != nil {
				return s, err
			}
			first = d.GetWorkflowExecutionInfo().GetFirstRunId()
		}
		h, err := c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: workflows.ID(key), FirstExecutionRunID: first, UpdateID: m.ID, UpdateName: string(kind), Args: []any{m}, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err == nil {
			err = h.Get(ctx, &s)
		}
		if again && errors.As(err, new(*serviceerror.NotFound)) {
			return endedWith(ctx, c, key, m.ID, err)
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
		return s, ErrNoRotation
	case errors.Is(err, ErrUnknown):
		return s, fmt.Errorf("whether the rotation of %s has taken it is not known. %s. Is a worker running (rekey doctor)? %w", key, lookFirst(key), err)
	}
	return s, fmt.Errorf("%s could not be sent to the rotation of %s: %w", kind, key, err)
}

// endedWith looks whether the rotation that has ended meanwhile took a decision before; if not it returns otherwise.
func endedWith(ctx context.Context, c client.Client, key, id string, otherwise error) (rotation.Status, error) {
	res, closed, err := Closed(ctx, c, key)
	if err != nil {
		return rotation.Status{}, fmt.Errorf("%w (%w)", ErrUnknown, err)
	}
	if !closed || !slices.ContainsFunc(res.Decisions, func(d rotation.Decision) bool { return d.ID == id }) {
		return rotation.Status{}, otherwise
	}
	return rotation.Status{Key: res.Key, Rotation: res.Rotation, Phase: res.Phase, Reason: res.Reason, Trail: res.Trail, New: res.New}, nil
}
