//! The words that [`super`] compares: lists, separated by blanks.

/// Parties that stop a conversation and are not the person who gets the messages.
pub const STOPPED_BY_OTHERS: &str = "client conversica manager rep reps representative admin administrator crm system assistant ai bot service \
     account agent advisor dealer dealership user sales salesperson bdc store showroom office center centre owner \
     team staff operator vendor automation workflow rule";

/// Reasons why a conversation ends by itself.
pub(super) const ENDED_BY_ITSELF: &str = "finished complete completed completion goal sold won lost limit exceeded pause paused expired inactive \
     duplicate timeout excluded bounced invalid error failed unresponsive closed appointment listening \
     automatically";

/// The person who gets the messages.
pub(super) const PERSONS: &str = "lead leads customer contact person recipient prospect consumer buyer patient student guest member subscriber \
     applicant candidate shopper donor resident tenant individual they he she";

/// Ways to write to a person, by the beginnings of their words.
pub(super) const WAYS: &str = "email mail text sms mms call phone telephon contact messag disturb market solicit send writ reach whatsapp \
     communicat newsletter";

/// Words beside a stop that do not change its meaning.
pub(super) const FILLERS: &str = "is has have had was been be of from to the a all any our your my me us by via on at in for and or as with \
     now please flag date time status request requested requests reply replied received wants asked no not do \
     dont does more further future list lists global globally permanent permanently everything reason keyword";

/// A key with one of these words belongs to an offer to stop, and is no stop itself.
pub(super) const OFFERS: &str = "url uri link links href token footer page html template";

/// Keys without separators between their words.
pub(super) const JOINED_STOPS: &str =
    "stopsms stopemail stoptext stopmessag stopcontact smsstop textstop emailstop requestedstop stoprequest";

/// The ends of keys whose value is a status between Conversica and a person.
pub(super) const STATUS_ENDS: &str = "status substatus stage state reason disposition outcome result action event type activity preference \
     preferences subscription consent";

/// Words between "do not" and a way to write to a person.
pub(super) const BETWEEN: &str = "auto automatically ever again want wants wish wishes to be receive receives any more further e use by via me \
     mass bulk";

/// Parts of words that withdraw a consent.
pub(super) const AGAINST: &str = "withdr revok revoc retract refus declin denied deny rescind remov cancel without";

/// Beginnings of values that withdraw a consent.
pub(super) const REFUSED: &str = "revok withdr denied deny refus declin reject notgiven notgranted optedout";

/// Parts of letters without separators that may be words about consent.
pub(super) const STEMS: &str = "opt stop subscri unsub unsuscri donot dont doesnt doesnot nomore nolonger never notto nowant want wish nosms \
     noemail nocontact notext nomarketing remov delete take forget unlist dnc dnd dne list suppress consent \
     permission complain spam abuse junk nofurther removal deletion erasure declin refus block ended alone";

/// As [`STEMS`], for keys.
pub(super) const KEY_STEMS: &str =
    "ask request repl texted answered sent keyword allow accept can may ok able receiv send";
