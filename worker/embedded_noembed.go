//go:build noembed

package main

import (
	"context"
	"errors"
	"io"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/activities"
)

// startEmbedded of the slim build, which links no server.
func startEmbedded(context.Context, options, string, *activities.Activities, io.Writer) (sdkclient.Options, func(), error) {
	return sdkclient.Options{}, nil, errors.New("this build has no Temporal server of its own: it was built with -tags noembed. " +
		"Leave --embedded out and name a Temporal with --address or TEMPORAL_ADDRESS, or use a build without that tag")
}
