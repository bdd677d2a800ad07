"""Common-sense questions with five options, written for this project in the form of the paper's.

One line each: the question, the right answer, then four wrong ones, with bars between.
"""

import random

from edge_sir.eval.tasks._paper.files import Item

__all__ = ["QUESTIONS", "questions"]

_LINES = """
Where would you most likely keep a spare tyre?|car boot|bookshelf|bathtub|letterbox|wardrobe
What do people usually do when the alarm clock rings?|wake up|go fishing|paint a wall|lock the garden|write a will
Where do you hang a wet coat so that it can dry?|hook in the hall|oven|piano|pillow|safe
A violin is normally stored in what?|case|bucket|freezer|envelope|flowerpot
What would you use to cross a wide river without getting wet?|bridge|ladder|curtain|whistle|mattress
Where does a librarian spend the working day?|among books|under water|on a runway|in a mine|on a stage
What happens to a puddle on a hot afternoon?|it dries up|it catches fire|it grows|it turns to stone|it sings
A person who is cold at night reaches for what?|blanket|fan|sunglasses|hose|compass
Where would you look for an earring lost in bed?|under the mattress|on the moon|in the bank|at the bus stop|in a cloud
Why is a stamp put on a letter?|to pay for delivery|to make it heavier|to hide the address|to keep it warm|to seal it
Which place is too loud for reading poems aloud?|building site|chapel|attic|meadow|reading room
What does a gardener do with weeds?|pulls them out|frames them|sells them|irons them|waters them daily
If the lights go out during dinner, what do you light?|candle|carpet|chair|mirror|telephone
Where do passengers wait for a train?|platform|cockpit|cellar|orchard|court
What do you need before you can withdraw money from a machine?|card|shovel|helmet|recipe|ticket
A snowman will disappear when what arrives?|spring|midnight|the post|a visitor|the news
Where would a shepherd most likely be found?|hillside|lift|submarine|office tower|dentist's chair
What do you call for when a house is burning?|fire brigade|orchestra|tailor|gardener|surveyor
Which thing would you take along on a walk in heavy rain?|umbrella|hairdryer|newspaper|paper bag|candle
Why does someone whisper in a theatre?|not to disturb others|to save money|to stay dry|to run faster|to be photographed
What is a bandage put on?|wound|window|wheel|wallet|waterfall
Where does a judge give the verdict?|courtroom|kitchen|stable|playground|harbour
What do you do with a pencil that has become blunt?|sharpen it|boil it|feed it|plant it|phone it
A goalkeeper tries to stop what?|ball|clock|bus|rumour|rain
Where are dirty plates put after a meal?|sink|drawer|bookcase|garage|suitcase
What would be strange to find in a desert?|penguin|sand|cactus|lizard|sunshine
Which tool do you need to drive a nail into a board?|hammer|sponge|thermometer|comb|spoon
What do people do in a lift to get to their floor?|press a button|row|climb a rope|dig|pedal
Why would you put an ice pack on an ankle?|it is swollen|it is dusty|it is too short|it is asleep|it is late
Where do you expect to see many telescopes?|observatory|bakery|swimming pool|laundry|barn
What is worn on the finger to show a marriage?|ring|scarf|apron|belt|crown
A kite will not fly without what?|wind|music|petrol|candles|shade
Where do you return a book that you have borrowed?|library|cinema|pharmacy|stadium|airport
What would a mechanic open first on a car that will not start?|bonnet|umbrella|glove|map|ashtray
When is it usual to blow out candles on a cake?|birthday|eclipse|election|exam|interview
What do bees visit to collect nectar?|flowers|caves|chimneys|bicycles|bathrooms
Where would you find an anchor?|on a ship|in a violin|on a bicycle|in a teacup|on a hat
Which of these can you fold and put in a pocket?|handkerchief|plank|bathtub|lamp post|piano
What does a referee use to stop the game?|whistle|hammer|pillow|brush|flag pole
Where would a farmer put the hay?|barn|bank|museum|lighthouse|theatre
What makes a shirt smooth again after washing?|iron|saw|rake|drill|axe
People hold on to what while they go down the stairs?|handrail|ceiling|curtain|doorbell|carpet
What do you do first in a dark room?|switch on the light|take a nap|count the chairs|close your eyes|write a letter
Where does the doctor listen with a stethoscope?|chest|elbow|hair|shoe|pocket
Which animal would a burglar be afraid of?|guard dog|goldfish|hamster|butterfly|snail
What does somebody who is lost in a strange city look at?|map|sock|spoon|ceiling|cushion
Where do you put the key to open a door?|lock|hinge|window|handle of a cup|gutter
What is a thermometer for?|measuring temperature|cutting cloth|telling time|weighing parcels|tuning a guitar
A pilot sits in which part of the plane?|cockpit|wing|wheel|tail light|cargo net
What might a child build on the beach?|sandcastle|snowman|tree house|igloo|bonfire tower
What do you cross out on the calendar?|days that are over|wrong notes|old shoes|stars|crumbs
Which room has a shower in most flats?|bathroom|hall|balcony|study|pantry
What does a tailor measure before making a suit?|the customer|the weather|the distance|the moon|the traffic
Where do fish breathe?|under water|in nests|on chimneys|in burrows|on roofs
Why do drivers stop at a crossing?|the light is red|the road is straight|the tank is full|the radio is on|it is Monday
What would you do with an invitation to a wedding?|answer it|water it|repair it|grill it|tune it
Where is a painting best seen by many people?|gallery|cupboard|tunnel|basement|drawer
What do you wear on your feet when you walk in deep snow?|boots|slippers|sandals|gloves|earrings
A sculptor works with which of these?|stone|steam|echoes|shadows|postage
What happens if you forget to charge a telephone?|it goes off|it gets wet|it rings louder|it flies away|it shrinks
Where would a squirrel hide its winter store?|hole in a tree|wallet|bottle|bank|chimney sweep's bag
What do you do with a gift before you hand it over?|wrap it|drop it|lend it|plough it|post it to yourself
Which of these helps you to see a tiny insect?|magnifying glass|loudspeaker|rubber band|blanket|doormat
Who would you ask about a toothache?|dentist|plumber|carpenter|conductor|florist
What closes a jacket from bottom to top?|zip|bolt|cork|paper clip|drawbridge
Where do players of an orchestra put their music?|stand|fridge|shoe|umbrella|ladder
What do you hear shortly after lightning?|thunder|applause|a doorbell|laughter|birdsong
Where can you buy stamps?|post office|forest|lighthouse|stable|glacier
What does a mountaineer tie around the waist?|rope|tablecloth|garden hose|ribbon of paper|telephone wire
Which place has rows of seats and a large screen?|cinema|well|greenhouse|stairwell|quarry
What is put under a hot pan to save the table?|mat|balloon|feather|letter|battery
Why does a traveller carry a passport?|to cross borders|to stay warm|to fix a tent|to make fire|to feed birds
"""

QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    (question, tuple(options)) for question, *options in (line.split("|") for line in _LINES.strip().splitlines())
)
"""(question, options), the right one first."""


def questions(r: random.Random, n: int) -> list[Item]:
    """`n` different questions, their options in drawn order."""
    found = []
    for stem, options in r.sample(QUESTIONS, n):
        order = r.sample(options, len(options))
        found.append(Item("", stem, tuple(order), order.index(options[0])))
    return found
