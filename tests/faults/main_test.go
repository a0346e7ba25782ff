package faults

import (
	"os"
	"testing"

	"github.com/rekeyhq/rekey/tests/virtual"
)

func TestMain(m *testing.M) { os.Exit(virtual.Main(m)) }
