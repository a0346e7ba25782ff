package activities

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// Channel is a place where people are told.
type Channel interface {
	// Notify sends a notice that is clean. It may be sent twice: the answer to the first try can be lost. Every error is a
	// *fault.Error; Unavailable and Throttled may pass later.
	Notify(ctx context.Context, n rotation.Notification) error
}

// NotifyInput is for Notify.
type NotifyInput struct {
	Target
	// Channel is a name of the worker's own configuration.
	Channel      string                `json:"channel"`
	Notification rotation.Notification `json:"notification"`
	// Workflow is the id of the rotation, for the link.
	Workflow string `json:"workflow"`
}

// Notify tells people through one channel. Run twice it may tell twice, with the same id. A channel that this worker
// does not have is Rejected.
func (a *Activities) Notify(ctx context.Context, in NotifyInput) error {
	if err := a.Allow(in.Key); err != nil {
		return err
	}
	c := a.Channels[in.Channel]
	if c == nil {
		return fault.New(fault.Rejected, "not_configured", fmt.Sprintf("tell %s about %s", in.Channel, in.Key.Name)).
			WithAdvice("This worker's rekey.yaml has no channel of that name. Add it, or restart the worker with the right file.")
	}
	info := activity.GetInfo(ctx)
	n := in.Notification.Clean()
	if n.Link = ""; a.UI != "" {
		n.Link = a.UI + "/namespaces/" + url.PathEscape(info.Namespace) + "/workflows/" + url.PathEscape(in.Workflow)
	}
	err := c.Notify(ctx, n)
	if f := fault.Of(err); err != nil && f.RetryAfter > 0 {
		// Many rotations were told to come back in the same moment; they spread themselves, wider with each try.
		wait := time.Duration(info.Attempt) * 30 * time.Second
		again := *f
		again.RetryAfter = max(f.RetryAfter, wait/2) + rotation.Spread(n.ID, in.Key.Name, wait)
		return &again
	}
	return err
}
