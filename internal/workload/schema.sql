-- A travel application's database, as an object-relational mapper would make
-- it: snake_case tables, camelCase columns, times without zone that hold UTC.

CREATE TYPE "UserCategory" AS ENUM ('LEISURE', 'BUSINESS');
CREATE TYPE "Role" AS ENUM ('USER', 'ADMIN', 'MODERATOR');
CREATE TYPE "TravelType" AS ENUM ('ADVENTURE', 'CULTURAL', 'RELAXATION', 'BUSINESS', 'FAMILY', 'ROMANTIC',
    'WELLNESS', 'EDUCATIONAL', 'CULINARY', 'SHOPPING', 'NIGHTLIFE', 'NATURE', 'URBAN', 'BEACH', 'MOUNTAIN',
    'HISTORICAL');
CREATE TYPE "BudgetFlexibility" AS ENUM ('STRICT', 'FLEXIBLE', 'VERY_FLEXIBLE');
CREATE TYPE "ActivityLevel" AS ENUM ('LOW', 'MODERATE', 'HIGH', 'VERY_HIGH');
CREATE TYPE "AccommodationLevel" AS ENUM ('BASIC', 'STANDARD', 'PREMIUM', 'LUXURY');
CREATE TYPE "RiskTolerance" AS ENUM ('CONSERVATIVE', 'MODERATE', 'ADVENTUROUS');
CREATE TYPE "RecommendationStatus" AS ENUM ('GENERATED', 'VIEWED', 'CLICKED', 'BOOKED', 'REJECTED', 'EXPIRED');
CREATE TYPE "BookingType" AS ENUM ('FLIGHT', 'HOTEL', 'TRANSFER', 'ACTIVITY', 'PACKAGE');
CREATE TYPE "BookingStatus" AS ENUM ('DRAFT', 'PENDING_PAYMENT', 'PENDING', 'CONFIRMED', 'CANCELLED',
    'COMPLETED', 'FAILED');
CREATE TYPE "FavoriteType" AS ENUM ('FLIGHT', 'HOTEL', 'ACTIVITY', 'DESTINATION', 'BOOKING');
CREATE TYPE "GdprRequestType" AS ENUM ('DATA_EXPORT', 'DATA_DELETION', 'DATA_RECTIFICATION', 'ACCESS_REQUEST');
CREATE TYPE "GdprRequestStatus" AS ENUM ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'REJECTED', 'CANCELLED');

CREATE TABLE users (
    id text PRIMARY KEY,
    email text NOT NULL UNIQUE,
    password text NOT NULL,
    username text,
    "firstName" text,
    "lastName" text,
    "phoneNumber" text,
    "dateOfBirth" timestamp(3),
    nationality text,
    "userCategory" "UserCategory" NOT NULL DEFAULT 'LEISURE',
    "isVerified" boolean NOT NULL DEFAULT false,
    role "Role" NOT NULL DEFAULT 'USER',
    "onboardingCompleted" boolean NOT NULL DEFAULT false,
    "onboardingCompletedAt" timestamp(3),
    "isSuspended" boolean NOT NULL DEFAULT false,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL
);

CREATE TABLE user_vectors (
    id text PRIMARY KEY,
    "userId" text NOT NULL UNIQUE REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    vector jsonb NOT NULL,
    version integer NOT NULL DEFAULT 1,
    source text NOT NULL DEFAULT 'onboarding',
    "primarySegment" text,
    "segmentConfidence" double precision,
    segments jsonb,
    "usageCount" integer NOT NULL DEFAULT 0,
    "lastUsedAt" timestamp(3),
    "lastSegmentUpdate" timestamp(3),
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL
);

CREATE TABLE travel_onboarding_profiles (
    id text PRIMARY KEY,
    "userId" text NOT NULL UNIQUE REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "isCompleted" boolean NOT NULL DEFAULT false,
    "currentStep" integer NOT NULL DEFAULT 0,
    "travelTypes" "TravelType"[],
    "globalBudgetRange" jsonb,
    "budgetFlexibility" "BudgetFlexibility",
    "activityLevel" "ActivityLevel",
    "accommodationLevel" "AccommodationLevel",
    "travelWithChildren" boolean NOT NULL DEFAULT false,
    "childrenAgeRanges" text[],
    "climatePreferences" text[],
    "riskTolerance" "RiskTolerance",
    "groupTypes" text[],
    "preferredAirlines" text[],
    "dietaryRestrictions" text[],
    "accessibilityNeeds" text[],
    languages text[],
    "loyaltyPrograms" jsonb,
    "carbonFootprintConsideration" boolean,
    "averageTripDuration" integer,
    "emergencyContact" jsonb,
    notes text,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL
);

CREATE TABLE user_preferences (
    id text PRIMARY KEY,
    "userId" text NOT NULL UNIQUE REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "budgetRange" jsonb,
    "preferredCabinClass" text,
    "homeAirport" text,
    "preferredCurrency" text,
    "preferredLanguage" text,
    newsletter boolean NOT NULL DEFAULT false
);

CREATE TABLE item_vectors (
    id text PRIMARY KEY,
    "destinationId" text NOT NULL,
    "destinationType" text NOT NULL,
    name text NOT NULL,
    country text,
    coordinates jsonb,
    vector jsonb NOT NULL,
    version integer NOT NULL DEFAULT 1,
    "popularityScore" double precision NOT NULL DEFAULT 0,
    "bookingCount" integer NOT NULL DEFAULT 0,
    "searchCount" integer NOT NULL DEFAULT 0,
    "seasonalityData" jsonb,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL,
    "lastSyncedAt" timestamp(3),
    UNIQUE ("destinationId", "destinationType")
);

CREATE TABLE recommendations (
    id text PRIMARY KEY,
    "userId" text NOT NULL REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "userVectorId" text REFERENCES user_vectors (id) ON UPDATE CASCADE ON DELETE SET NULL,
    "itemVectorId" text REFERENCES item_vectors (id) ON UPDATE CASCADE ON DELETE SET NULL,
    "destinationId" text NOT NULL,
    "destinationName" text NOT NULL,
    "destinationType" text NOT NULL,
    score double precision NOT NULL,
    confidence double precision,
    reasons jsonb,
    "contextType" text NOT NULL DEFAULT 'general',
    "contextData" jsonb,
    status "RecommendationStatus" NOT NULL DEFAULT 'GENERATED',
    "viewedAt" timestamp(3),
    "clickedAt" timestamp(3),
    "bookedAt" timestamp(3),
    "rejectedAt" timestamp(3),
    "userRating" integer,
    "expiresAt" timestamp(3) NOT NULL,
    "isActive" boolean NOT NULL DEFAULT true,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL
);
CREATE INDEX ON recommendations ("userId", "createdAt");
CREATE INDEX ON recommendations ("userVectorId");
CREATE INDEX ON recommendations ("itemVectorId");

CREATE TABLE search_history (
    id text PRIMARY KEY,
    "userId" text REFERENCES users (id) ON UPDATE CASCADE ON DELETE SET NULL,
    "sessionId" text NOT NULL,
    origin text NOT NULL,
    destination text NOT NULL,
    "departureDate" timestamp(3) NOT NULL,
    "returnDate" timestamp(3),
    passengers jsonb NOT NULL,
    "cabinClass" text,
    "searchedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "resultsCount" integer
);
CREATE INDEX ON search_history ("userId", "searchedAt");

CREATE TABLE booking_data (
    id text PRIMARY KEY,
    "userId" text NOT NULL,
    type "BookingType" NOT NULL,
    reference text NOT NULL UNIQUE,
    status "BookingStatus" NOT NULL DEFAULT 'DRAFT',
    "totalAmount" numeric(10, 2) NOT NULL,
    currency text NOT NULL DEFAULT 'EUR',
    data jsonb NOT NULL,
    "confirmedAt" timestamp(3),
    "paymentIntentId" text,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL
);
CREATE INDEX ON booking_data ("userId");

CREATE TABLE favorites (
    id text PRIMARY KEY,
    "userId" text NOT NULL REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "entityType" "FavoriteType" NOT NULL,
    "entityId" text NOT NULL,
    note text,
    created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at timestamp(3) NOT NULL,
    UNIQUE ("userId", "entityType", "entityId")
);

CREATE TABLE user_consents (
    id text PRIMARY KEY,
    "userId" text NOT NULL UNIQUE REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    analytics boolean NOT NULL DEFAULT false,
    marketing boolean NOT NULL DEFAULT false,
    functional boolean NOT NULL DEFAULT true,
    preferences boolean NOT NULL DEFAULT false,
    "lastUpdatedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "ipAddress" text
);

CREATE TABLE gdpr_requests (
    id text PRIMARY KEY,
    "userId" text NOT NULL REFERENCES users (id) ON UPDATE CASCADE ON DELETE CASCADE,
    "requestType" "GdprRequestType" NOT NULL,
    status "GdprRequestStatus" NOT NULL DEFAULT 'PENDING',
    reason text,
    "adminNotes" text,
    "requestedAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "processedAt" timestamp(3),
    "completedAt" timestamp(3)
);
CREATE INDEX ON gdpr_requests ("userId");
