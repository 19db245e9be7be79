package workload

// What the generator draws from. All of it is constant.

var (
	// countries are nationalities in ISO 3166 alpha-2, commoner ones repeated.
	countries = []string{
		"FR", "FR", "FR", "DE", "DE", "ES", "IT", "GB", "UK", "US", "US", "CA", "MX", "BR", "AR",
		"MA", "SN", "ZA", "AU", "NZ", "AE", "SA", "JP", "CN", "IN", "TW", "XK", "PL", "SE",
	}
	dirtyCountries = []string{"ZZ", "QQ", "fr", " DE ", "gb", "uk ", "", "France", "X", "1"}

	itemCountries      = []string{"France", "Italy", "Spain", "Japan", "Morocco", "Greece", "Portugal", "Thailand", "Peru", "Kenya", "Iceland", "Vietnam"}
	dirtyItemCountries = []string{"", "Atlantis", " france", "FR"}

	placeHeads = []string{"Aldo", "Bela", "Cori", "Dura", "Esta", "Fjor", "Gran", "Hava", "Isla", "Jura", "Kala", "Luma", "Mira", "Nova", "Orin", "Pala"}
	placeTails = []string{"mar", "ville", "polis", "burg", "dal", "nia", "haven", "mont", "ria", "stad", "wick", "port"}
	itemTypes  = []string{"CITY", "CITY", "CITY", "BEACH", "MOUNTAIN", "REGION", "COUNTRYSIDE"}

	segments = []string{
		"BUDGET_BACKPACKER", "FAMILY_EXPLORER", "LUXURY_TRAVELER", "ADVENTURE_SEEKER",
		"BUSINESS_TRAVELER", "CULTURE_ENTHUSIAST", "ROMANTIC_COUPLE", "WELLNESS_SEEKER",
	}
	travelTypes = []string{
		"ADVENTURE", "CULTURAL", "RELAXATION", "BUSINESS", "FAMILY", "ROMANTIC", "WELLNESS",
		"EDUCATIONAL", "CULINARY", "SHOPPING", "NIGHTLIFE", "NATURE", "URBAN", "BEACH", "MOUNTAIN", "HISTORICAL",
	}
	flexibilities  = []string{"STRICT", "FLEXIBLE", "VERY_FLEXIBLE"}
	activities     = []string{"LOW", "MODERATE", "HIGH", "VERY_HIGH"}
	accommodations = []string{"BASIC", "STANDARD", "STANDARD", "PREMIUM", "LUXURY"}
	risks          = []string{"CONSERVATIVE", "MODERATE", "ADVENTUROUS"}
	climates       = []string{"TROPICAL", "TEMPERATE", "COLD", "DRY", "MEDITERRANEAN"}
	groups         = []string{"SOLO", "COUPLE", "FAMILY", "FRIENDS"}
	airlines       = []string{"AF", "LH", "BA", "KL", "EK"}
	diets          = []string{"VEGETARIAN", "VEGAN", "HALAL", "GLUTEN_FREE"}
	languages      = []string{"fr", "en", "de", "es", "it"}
	airports       = []string{"CDG", "ORY", "LHR", "JFK", "FRA", "MAD", "FCO", "NRT", "CMN", "YUL", "GRU", "SYD"}
	cabins         = []string{"ECONOMY", "ECONOMY", "ECONOMY", "PREMIUM_ECONOMY", "BUSINESS", "FIRST"}
	contexts       = []string{"general", "general", "general", "homepage", "search", "email"}
	bookingTypes   = []string{"FLIGHT", "FLIGHT", "HOTEL", "HOTEL", "TRANSFER", "ACTIVITY", "PACKAGE"}
	otherFavorites = []string{"FLIGHT", "HOTEL", "ACTIVITY", "BOOKING"}
	currencies     = []string{"USD", "GBP", "CHF", "JPY"}
	requestTypes   = []string{"DATA_EXPORT", "DATA_RECTIFICATION", "ACCESS_REQUEST"}

	firstNames = []string{"Aline", "Bruno", "Chloé", "Dario", "Elif", "Farid", "Greta", "Hugo"}
	lastNames  = []string{"Marchand", "Weber", "O'Neill", "Rossi", "Yıldız", "Haddad", "Novák", "Lind"}
)

// secretMark is in every value of the columns that must never leave the
// database.
const secretMark = "never-leave"

// Secrets returns strings, one or more of which stand in each value of the
// columns that must never leave the database (users: email, password, username,
// firstName, lastName, phoneNumber; profiles: emergencyContact, notes; consents:
// ipAddress; requests: reason, adminNotes; bookings: paymentIntentId). Nothing
// else that this package writes holds them, so that finding one outside the
// database is a leak.
func Secrets() []string { return []string{secretMark, secretPhone, secretAddress} }

const (
	secretPhone   = "+33600"
	secretAddress = "203.0.113."
)
