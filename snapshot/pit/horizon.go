package pit

import (
	"sort"

	"dreamfeed/internal/change"
	"dreamfeed/internal/history"
)

// horizon is T − window, before which a join looks at nothing (ADR 0014).
func (o Options) horizon() change.Version {
	window := o.Window.Microseconds()
	if window >= int64(o.AsOf) {
		return 0
	}
	return o.AsOf - change.Version(window)
}

// look returns those of a row's versions, newest first, that a join looks at:
// up to the as-of moment, and from the horizon on. What a newer version had
// replaced by the horizon is left out, and so is a row that was gone by then:
// retention may have removed both, and no cut-off at or after the horizon can
// tell the difference. For every version known time ≤ version, so that at such a
// cut-off rule (a) of DESIGN §6.2 chooses the version that holds at the horizon
// or a newer one; rule (b) and columns that were not captured ask newer ones only.
func look(versions []history.Version, asOf, horizon change.Version) []history.Version {
	from, to := bounds(versions, asOf, horizon)
	return versions[from:to]
}

// bounds are those of look.
func bounds(versions []history.Version, asOf, horizon change.Version) (from, to int) {
	for from < len(versions) && versions[from].Version > asOf {
		from++
	}
	to = from
	if behind := versions[from:]; len(behind) > manyVersions {
		to += sort.Search(len(behind), func(i int) bool { return behind[i].Version <= horizon })
	}
	for to < len(versions) && versions[to].Version > horizon {
		to++
	}
	if to < len(versions) && !versions[to].Deleted {
		to++
	}
	return from, to
}
