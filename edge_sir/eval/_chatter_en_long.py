"""English for `chatter`: long pastes, 80 to 150 tokens, as (user, assistant)."""

__all__ = ["TEMPLATES"]

_REPORTS = (
    (
        "Please read this: The council of {city} met to discuss the old tram depot. {name} {surname} proposed to turn "
        "it into a library with {few} reading rooms, while others wanted a swimming pool. After {few2} hours the vote "
        "was postponed until the engineers have looked at the roof. A second meeting is planned before the summer.",
        "I have read it. The council of {city} postponed the vote on the tram depot.",
    ),
    (
        "From the local paper: A {animal} stopped the traffic on the ring road of {city} for almost {few} hours. "
        "Firefighters tried to lure it away with leaves, without success. In the end {name}, who works as {job}, "
        "simply opened the door of the van, and the animal climbed in. The drivers applauded.",
        "A charming story, and a patient crowd.",
    ),
    (
        "Can you shorten this? We regret to inform you that the delivery of your {thing} is delayed because the "
        "warehouse in {city} was flooded on {day}. Our team is drying {hundreds} boxes at the moment. You may cancel "
        "at no cost, or wait about {few} weeks. We apologise for the trouble and thank you for your patience.",
        "Shorter: a flood in {city} delays your {thing} by some weeks; you may cancel for free.",
    ),
    (
        "Minutes. Present: {name}, {name2}, {name3}. 1. The heating is too loud; {name} asks the owner. 2. The "
        "bicycle stand will be moved next to the gate. 3. Somebody leaves a {thing} in the hall; this must stop. "
        "4. The summer party takes place in the yard, with {dish} and music until ten. End at {hour}:{minute}.",
        "Clear minutes. I would only add who brings the music.",
    ),
    (
        "Here is my diary: We left {city} before sunrise and drove along the coast for {few} hours. The fog was so "
        "thick that {name} walked ahead with a lamp. Near {city2} we found a small inn where an old man played the "
        "violin. Nobody spoke much. I think it was the best evening of the whole journey.",
        "That reads beautifully. The fog makes it almost a fairy tale.",
    ),
    (
        "Is this abstract any good? We study how {topic} influence {topic2} in a sample of {hundreds} villages "
        "around {far}. Using a simple linear model we find a small but robust effect, which vanishes once the weather "
        "is taken into account. We discuss what this means for planners and release all measurements.",
        "It is clear. I would name the size of the effect.",
    ),
)

_TECHNICAL = (
    (
        "INFO start worker {few}\nINFO loaded {long} rows in {num} ms\nWARN retry after timeout ({hundreds} ms)\n"
        "INFO loaded {long2} rows in {num2} ms\nERROR worker {few}: broken pipe\nINFO restart\nINFO done, "
        "{hundreds2} skipped\nWhat happened here?",
        "Worker {few} lost its connection once, was restarted and then finished.",
    ),
    (
        "class Box:\n    def __init__(self, w, h):\n        self.w, self.h = w, h\n\n    def area(self):\n        "
        "return self.w * self.h\n\nboxes = [Box({few}, {num}), Box({few2}, {num2})]\nprint(max(b.area() for b in "
        "boxes))\nWhat does it print?",
        "The larger of the two areas, that is, of the products.",
    ),
    (
        "id,city,count\n1,{city},{num}\n2,{city2},{num2}\n3,{city3},{num3}\n4,{city4},{hundreds}\n5,{city5},{few}\n"
        "Which row is the largest?",
        "The fourth one, {city4}, with a count of {hundreds}.",
    ),
    (
        "Device {serial}, firmware {few}.{num}.{num2}. Error table: E{hundreds} sensor missing, E{hundreds2} valve "
        "blocked, E{hundreds3} voltage low. Reset by holding the {material} knob for {few2} seconds. Do not open the "
        "{odd} chamber. Inspector: {surname}.",
        "A strange machine. I would call somebody who knows it.",
    ),
    (
        "<ul>\n  <li><a href='/{topic}'>{topic}</a></li>\n  <li><a href='/{topic2}'>{topic2}</a></li>\n  <li>"
        "<a href='/{topic3}'>{topic3}</a></li>\n</ul>\n<p>Updated by {name} in {year}.</p>\nIs anything missing here?",
        "It is valid. A navigation element around the list would help readers.",
    ),
)

_INSTRUCTIONS_AND_TALES = (
    (
        "My recipe for {dish}: Chop everything into small pieces and let it rest for {num} minutes. Heat the pan "
        "slowly, stir with a spoon made of {material}, and add water little by little. When it smells right, cover it "
        "and leave it alone. {name} puts pepper on top, {name2} does not. It feeds {few} people or one {animal}.",
        "That sounds good, and I trust the {animal} on this.",
    ),
    (
        "How to get to us: Leave the station on the left side and walk along the canal until you see a tower of "
        "{material}. Cross the bridge, pass the shop with the {thing} in the window, and take the {few}th street. Our "
        "house is number {num}. If a {animal} looks at you from the roof, you are right. Ring twice.",
        "With that description I would find it at night.",
    ),
    (
        "Once upon a time a {animal} and a {animal2} lived under a {thing}. They argued every evening about {topic}, "
        "until one day {name} moved in and began to practise {hobby}. Then they were quiet, for they had never seen "
        "anything like it. What could happen next?",
        "Perhaps they join in, badly at first, and forget what they argued about.",
    ),
    (
        "Speech for {name}: Dear guests, {num} years ago a {mood} child came to {city} with nothing but a {thing}. "
        "Today {name} leads a company of {hundreds} people. We laughed about the {animal} in the office, we cried when "
        "the roof fell in, and we never missed a birthday. Raise your glasses!",
        "Warm and funny. I would add one sentence of thanks.",
    ),
    (
        "Rules of the game: Every player gets {few} cards and a stone of {material}. Whoever has seen a {animal} last "
        "begins. In your turn you either trade a card or move the stone; never both. A pair of {topic} counts "
        "{num} points, a pair of {topic2} only half. The game ends when the stone returns.",
        "Simple enough. It probably takes an hour.",
    ),
)

_ENCYCLOPEDIC = (
    (
        "The {odd} was first described by {name} {surname} in {year}, on an expedition that had set out from {far} to "
        "measure {topic}. The notes were lost twice, once in a fire in {city} and once in a {thing}. Today two museums "
        "quarrel about the only drawing. Scholars agree that it is upside down.",
        "What an odyssey for a drawing.",
    ),
    (
        "Genealogy: {surname} begat {surname2}; {surname2} moved to {far} and had {few} children, among them {name} "
        "{surname2}, {job}, and {name2}, who sailed off in {year} and was never seen again. The coat of arms shows "
        "a {animal} above a {odd}.",
        "The coat of arms alone is worth a visit to the archive.",
    ),
    (
        "Contents of crate {serial}: one {odd} (damaged), two {material} gears, a letter to {surname} in {far}, "
        "{num} glass plates of {topic}, and a stuffed {animal}. Insured for {long} crowns. Received by {name} at "
        "{hour}:{minute}, weight {hundreds} kilograms, no signature.",
        "Quite a crate. I would photograph everything before it is moved.",
    ),
)

TEMPLATES = _REPORTS + _TECHNICAL + _INSTRUCTIONS_AND_TALES + _ENCYCLOPEDIC
