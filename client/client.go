// Package client is the way into a running rekey for Go programs: it starts rotations and emergencies, follows them, and
// sends the decisions that people take. The command line is built on it, and so are the worker's listener for webhooks
// and the rotation function for AWS.
//
//	c := client.New(temporal)
//	_, err := c.Start(ctx, client.Request{Key: key, By: "deploy", Why: "a laptop was lost"})
//	res, err := c.Wait(ctx, key.Name)
//
// # What is asked
//
// Everything is kept by Temporal; rekey's workers need not run for most of it. What needs one says so: [Client.Status],
// [Client.Decide], [Client.EmergencyProgress], and whatever waits for something to happen.
//
// A key's latest rotation is the one that is meant wherever a method takes the name of a key. There is one at a time.
//
// # Errors
//
// An error that is none of this package's Err… says that nothing was done, and why. Compare with errors.Is: most errors say
// more than the bare one. The important one is [ErrUnknown]: nobody answered, and what was asked for may have been done.
// Requests are repeated for half a minute before it is returned; whoever gets it should look before asking again.
package client

import (
	"errors"

	sdkclient "go.temporal.io/sdk/client"
)

// The errors that a caller may want to tell apart.
var (
	// ErrRunning: a rotation of the key is running already, and nothing was started. Asking again helps when it has ended.
	ErrRunning = errors.New("a rotation of this key is running already")
	// ErrNotRunning: no rotation of the key is running that could take a decision. Nothing was sent.
	ErrNotRunning = errors.New("no rotation of this key is running")
	// ErrNotFound: Temporal knows no rotation of that key, or no emergency of that id. There never was one, or its history
	// was deleted.
	ErrNotFound = errors.New("Temporal knows of none")
	// ErrTerminated: the rotation was terminated from outside and has no result. Keys and stores are as it left them; the
	// next rotation of the key finishes what it began.
	ErrTerminated = errors.New("it was terminated from outside")
	// ErrNoWorker: Temporal answers and no worker does, so nobody can say how it stands. Asking again is harmless.
	ErrNoWorker = errors.New("no worker answers")
	// ErrUnknown: there was no answer, so it may have been done or not, or may yet be. Look before asking again.
	ErrUnknown = errors.New("Temporal gave no answer, so it may have been done or not")
)

// Client asks one Temporal namespace for rotations and emergencies. It may be used by several goroutines at once. It
// keeps no state of its own, so there may be as many as one likes.
type Client struct{ temporal sdkclient.Client }

// New makes a client over a connection to Temporal, which stays the caller's to close. It asks for nothing.
func New(temporal sdkclient.Client) *Client { return &Client{temporal} }
