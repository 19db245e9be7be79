package workload

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// table names a table and the columns that this package writes, in the order of
// a row's values.
type table struct {
	name    string
	columns []string
}

// Places in tables, parents first.
const (
	users = iota
	itemVectors
	userVectors
	profiles
	preferences
	recommendations
	searches
	bookings
	favorites
	consents
	gdprRequests
	tableCount
)

var tables = [tableCount]table{
	users: {"users", strings.Fields(`id email password username firstName lastName phoneNumber dateOfBirth
		nationality userCategory isVerified role onboardingCompleted onboardingCompletedAt isSuspended created_at
		updated_at`)},
	itemVectors: {"item_vectors", strings.Fields(`id destinationId destinationType name country coordinates vector
		version popularityScore bookingCount searchCount seasonalityData createdAt updatedAt lastSyncedAt`)},
	userVectors: {"user_vectors", strings.Fields(`id userId vector version source primarySegment segmentConfidence
		segments usageCount lastUsedAt lastSegmentUpdate createdAt updatedAt`)},
	profiles: {"travel_onboarding_profiles", strings.Fields(`id userId isCompleted currentStep travelTypes
		globalBudgetRange budgetFlexibility activityLevel accommodationLevel travelWithChildren childrenAgeRanges
		climatePreferences riskTolerance groupTypes preferredAirlines dietaryRestrictions accessibilityNeeds
		languages loyaltyPrograms carbonFootprintConsideration averageTripDuration emergencyContact notes createdAt
		updatedAt`)},
	preferences: {"user_preferences", strings.Fields(`id userId budgetRange preferredCabinClass homeAirport
		preferredCurrency preferredLanguage newsletter`)},
	recommendations: {"recommendations", strings.Fields(`id userId userVectorId itemVectorId destinationId
		destinationName destinationType score confidence reasons contextType contextData status viewedAt clickedAt
		bookedAt rejectedAt userRating expiresAt isActive createdAt updatedAt`)},
	searches: {"search_history", strings.Fields(`id userId sessionId origin destination departureDate returnDate
		passengers cabinClass searchedAt resultsCount`)},
	bookings: {"booking_data", strings.Fields(`id userId type reference status totalAmount currency data
		confirmedAt paymentIntentId createdAt updatedAt`)},
	favorites: {"favorites", strings.Fields(`id userId entityType entityId note created_at updated_at`)},
	consents: {"user_consents", strings.Fields(`id userId analytics marketing functional preferences lastUpdatedAt
		ipAddress`)},
	gdprRequests: {"gdpr_requests", strings.Fields(`id userId requestType status reason adminNotes requestedAt
		processedAt completedAt`)},
}

func (t table) columnList() string { return `"` + strings.Join(t.columns, `", "`) + `"` }

// copySQL loads rows in COPY's text format.
func (t table) copySQL() string {
	return fmt.Sprintf("COPY %s (%s) FROM STDIN", t.name, t.columnList())
}

// insertSQL takes one parameter a column.
func (t table) insertSQL() string {
	var b strings.Builder
	fmt.Fprintf(&b, "INSERT INTO %s (%s) VALUES (", t.name, t.columnList())
	for i := range t.columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(i + 1))
	}
	b.WriteByte(')')
	return b.String()
}

// A row holds one value a column: nil, string (also for json, enums and
// numeric), bool, int, float64, time.Time, or []string for an array. All travel
// as PostgreSQL's text, which needs no knowledge of the enum types.
type row []any

const timeLayout = "2006-01-02 15:04:05.000"

// text returns a value in PostgreSQL's text format; it must not be nil.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case int:
		return strconv.Itoa(v)
	case float64:
		if math.IsInf(v, 0) {
			return strings.Replace(strconv.FormatFloat(v, 'g', -1, 64), "Inf", "Infinity", 1)
		}
		return strconv.FormatFloat(v, 'g', -1, 64)
	case time.Time:
		return v.UTC().Format(timeLayout)
	case []string:
		return arrayText(v)
	default:
		panic(fmt.Sprintf("workload: a value of type %T has no text", v))
	}
}

// arrayText quotes every element, which is always allowed.
func arrayText(elements []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, e := range elements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(e))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// params returns a row's values as statement parameters.
func (r row) params() []any {
	out := make([]any, len(r))
	for i, v := range r {
		if v != nil {
			out[i] = text(v)
		}
	}
	return out
}

// appendCopy appends a row in COPY's text format.
func (r row) appendCopy(buf []byte) []byte {
	for i, v := range r {
		if i > 0 {
			buf = append(buf, '\t')
		}
		if v == nil {
			buf = append(buf, '\\', 'N')
			continue
		}
		for _, c := range []byte(text(v)) {
			switch c {
			case '\\':
				buf = append(buf, '\\', '\\')
			case '\t':
				buf = append(buf, '\\', 't')
			case '\n':
				buf = append(buf, '\\', 'n')
			case '\r':
				buf = append(buf, '\\', 'r')
			default:
				buf = append(buf, c)
			}
		}
	}
	return append(buf, '\n')
}
