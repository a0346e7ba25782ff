// Package notify says what a channel is: a place where people are notified of what a rotation needs from them, and of how
// it ended. The packages below it are the kinds of channels; notify/notifytest holds each of them to the contract.
package notify

import (
	"context"

	"github.com/rekeyhq/rekey/rotation"
)

// Channel is a place where people are notified. It is safe for concurrent use.
type Channel interface {
	// Notify sends a notification that is clean (rotation.Notification.Clean), in one attempt of bounded time, and honours
	// the end of ctx. Whoever calls repeats it.
	//
	// It may be sent twice: the answer to the first attempt can be lost. The receiver gets the same ID then, which makes the
	// repetition harmless.
	//
	// Every error is a *fault.Error:
	//
	//   - Unavailable: nobody answered, or the receiver could not take it now; retryable. Unsettled is set where it may have
	//     arrived all the same. RetryAfter is what the receiver asked for, if it did.
	//   - Throttled: too many at once; retryable after RetryAfter.
	//   - Rejected: the receiver does not take it as it is, or answers with a redirect, which is never followed.
	//   - NotFound: the address, or what it leads to, is gone.
	//   - AccessDenied: the receiver refuses the address or the signature, or the channel's own secret cannot be read.
	//   - Internal: what answers is not the receiver.
	//
	// The last four are not retryable: somebody has to repair the channel. No error shows the channel's address or its
	// secret, or what the receiver answered.
	Notify(ctx context.Context, n rotation.Notification) error
}
