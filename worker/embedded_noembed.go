//go:build noembed

package main

import (
	"context"
	"errors"
	"io"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/worker/engine"
)

// noServer says why this build cannot bring a Temporal of its own: it links no server.
var noServer = errors.New("this build has no Temporal server of its own: it was built with -tags noembed. " +
	"Leave --embedded out and name a Temporal with --address or TEMPORAL_ADDRESS, or use a build without that tag")

// startEmbedded has nothing to start in this build.
func startEmbedded(context.Context, options, string, *engine.Setup, io.Writer) (sdkclient.Options, func(), error) {
	return sdkclient.Options{}, nil, noServer
}
