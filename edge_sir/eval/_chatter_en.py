"""English for `chatter`: word lists, and short exchanges as (user, assistant)."""

from edge_sir.eval._words import words

__all__ = ["TEMPLATES", "WORDS"]

WORDS = {
    "name": words(
        "Ada,Bruno,Chika,Dmitri,Elena,Farid,Hiro,Ines,Jonas,Katya,Liam,Mona,Nikhil,Olga,Pascal,Rosa,Samir,Tove,Ulrich,"
        "Vera,Wanda,Xavier,Yusuf,Zelda,Amos,Bea,Carlo,Dora,Edgar,Freya,Gustav,Hazel,Ivo,Judith,Kofi,Leona,Milo,Nadia"
    ),
    "surname": words(
        "Abernathy,Brzeczyk,Csonka,Dlamini,Eszterhas,Fjeldstad,Gwynedd,Hrabal,Iyengar,Jokinen,Kvaratskhelia,Llewellyn,"
        "Mbeki,Nguyen,Oyelaran,Pfeiffer,Quispe,Rzepka,Szymborski,Tshabalala,Uusitalo,Vlk,Wojcik,Xenakis,Zhvania"
    ),
    "city": words(
        "Utrecht,Lagos,Porto,Osaka,Quito,Tampere,Cork,Graz,Leeds,Kigali,Hanoi,Bergen,Toulouse,Izmir,Perth,Tbilisi,"
        "Cardiff,Gdansk,Malmo,Bologna,Cusco,Halifax,Nagoya,Tunis,Riga,Seville,Kyoto,Bristol,Dakar,Lima,Ghent,Zadar"
    ),
    "far": words(
        "Ouagadougou,Ulaanbaatar,Antananarivo,Reykjavik,Paramaribo,Nouakchott,Tegucigalpa,Ashgabat,Thimphu,Ndjamena,"
        "Yaren,Nukualofa,Longyearbyen,Iqaluit,Ushuaia,Vladivostok"
    ),
    "topic": words(
        "tides,volcanoes,beavers,glass,maps,clocks,bridges,comets,moss,violins,lighthouses,bees,magnets,canals,"
        "submarines,windmills,fossils,kites,glaciers,paper,owls,elevators,satellites,castles,deserts,mirrors,whales"
    ),
    "odd": words(
        "syzygy,quincunx,borborygmus,petrichor,zeugma,axolotl,theodolite,gnomon,xylem,okapi,quokka,sphygmograph,"
        "phlogiston,tmesis,ziggurat,oubliette,flugelhorn,pangolin,ytterbium,kakapo,nudibranch,absquatulate,widdershins"
    ),
    "thing": words(
        "umbrella,bicycle,lamp,kettle,printer,sofa,ladder,piano,fridge,heater,curtain,toaster,mailbox,drill,radio,shelf,"
        "vacuum cleaner,wardrobe,doorbell,carpet,bathtub,lawn mower,coffee machine,bookcase"
    ),
    "animal": words("cat,dog,parrot,rabbit,hedgehog,goose,squirrel,pony,tortoise,goat,fox,crow,heron,ferret,donkey"),
    "dish": words(
        "lentil soup,pancakes,risotto,goulash,dumplings,a fruit salad,an onion tart,vegetable curry,potato salad,"
        "a mushroom pie,fried noodles,a bean stew,an apple crumble,ratatouille,scones,a pumpkin soup"
    ),
    "hobby": words("chess,juggling,knitting,rowing,archery,origami,yoga,birdwatching,pottery,fencing,calligraphy,judo"),
    "job": words(
        "a nurse,a plumber,an architect,a baker,a pilot,a judge,a gardener,an actor,a welder,a vet,a surveyor"
    ),
    "day": words("Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday"),
    "mood": words("tired,cheerful,grumpy,nervous,hungry,bored,lazy,excited,confused,sleepy,proud,lonely"),
    "material": words("copper,oak,slate,linen,brass,bamboo,marble,cork,tin,granite,silk,clay,pine,bronze"),
    "planet": words("Mercury,Venus,Mars,Jupiter,Saturn,Uranus,Neptune"),
}

_QUESTIONS = (
    ("What is the most surprising thing about {topic}?", "Many people are surprised how long {topic} have mattered."),
    ("Why do people in {city} care so much about {topic}?", "It has to do with local history and a bit of pride."),
    ("Could you explain {topic} to a child in two sentences?", "Think of {topic} as a puzzle. We look at one piece."),
    ("How far away is {planet}?", "It depends on where both planets are, but always many millions of kilometres."),
    ("Who wrote Pride and Prejudice?", "Jane Austen wrote it; it was published in 1813."),
    ("What makes the sky blue?", "Air scatters short blue waves of sunlight more than long red ones."),
    ("Is {material} heavier than {material2}?", "That depends on the piece, but by volume they differ quite a bit."),
    ("Which is larger, {city} or {city2}?", "I would have to look it up; it also depends on the suburbs."),
    ("Why do cats purr?", "Mostly when they are content, but also when they are in pain and calm themselves."),
    ("How do {topic} and {topic2} go together?", "At first sight not at all, yet both need a lot of patience."),
    ("What does {odd} mean?", "It is a rare word; {odd} is found in good dictionaries and in crosswords."),
    ("Can you use {odd} and {odd2} in one sentence?", "Between {odd} and {odd2}, he chose to stay silent."),
    ("Was {year} a leap year?", "Divide it by four and mind the centuries, then you will know."),
    ("Would {material} float?", "Try it in a bucket; most of the time the answer is in the density."),
)

_SMALL_TALK = (
    ("I just came back from {city}, it rained all week.", "Oh no! I hope you had a good umbrella with you."),
    ("My neighbour {name} plays the trumpet at midnight.", "That sounds tiring. Have you talked about it?"),
    ("I slept badly and I am a bit {mood} today.", "I am sorry to hear that. Maybe a short walk would help."),
    ("{name} said hello, by the way.", "How kind! Please give {name} my best wishes."),
    ("Do you ever get {mood}?", "Not really, but I am always glad when somebody writes to me."),
    ("A {animal} sat on our {thing} this morning.", "What a visitor! Did it stay for long?"),
    ("{name} wants to become {job} now.", "A fine trade. It takes a few years to learn, though."),
    ("I think I broke the {thing} again.", "These things happen. Is there a shop that repairs it?"),
    ("We watched a film about a {animal} that learns {hobby}.", "That sounds silly in the best way."),
    ("I am so {mood}, I could sleep on a {thing}.", "Then perhaps it is time for a break."),
    ("My uncle believes that {topic} are a hoax.", "Uncles are like that. Does he have a reason?"),
    ("Somebody painted our {thing} with gold varnish.", "Either a prank or a very confused artist."),
    ("{name} and {name2} are not talking to each other.", "Give them a week. Old friends come round."),
    ("It is so hot here that the {material} bends.", "Stay in the shade and drink enough, please."),
    ("I started {hobby} last month.", "Lovely! What made you pick {hobby}?"),
    ("The {animal} next door is called Sir {surname}.", "A noble name for a noble {animal}."),
    ("Guess who I met at the station: {name} {surname}!", "What a small world. Did you have time to talk?"),
    ("The flowers are out already.", "Spring is early this year. Enjoy the colours!"),
)

_LISTS = (
    ("Name four cities for a long trip.", "1. {city}\n2. {city2}\n3. {city3}\n4. {city4}"),
    ("Who comes to the rehearsal?", "- {name}\n- {name2}\n- {name3}\nThat makes three people."),
    ("Give me three ways to relax.", "- Read a novel in the garden.\n- Take a warm bath.\n- Call an old friend."),
    ("Three rare words, please.", "{odd}, {odd2}, {odd3}"),
    ("Sort these: {num}, {num2}, {few}.", "From small to large, the single digit comes first."),
    ("Materials for the model house?", "* {material} for the walls\n* {material2} for the roof\n* some glue"),
    ("Which hobbies suit a {mood} person?", "Perhaps {hobby}, {hobby2} or {hobby3}."),
    ("Name some animals with good ears.", "The {animal}, the {animal2} and the {animal3} all hear very well."),
    ("Topics for the quiz night?", "{topic}; {topic2}; {topic3}; {topic4}. Ten questions each."),
    ("What stands in the cellar?", "One {thing}, one {thing2}, a broken {thing3} and boxes of old letters."),
)

_NUMBERS = (
    ("What is {num} plus {num2}?", "{num} plus {num2} is {sum}."),
    ("What is {num} times {num2}?", "{num} times {num2} is {product}."),
    ("Difference between {num} and {num2}?", "It is {difference}."),
    ("My meter reads {long} today.", "Thank you, I have noted the reading."),
    ("The train leaves at {hour}:{minute}.", "Then you should leave in good time."),
    ("The {thing} cost {hundreds}.{cents} euros.", "That is a lot of money for a {thing}."),
    ("I am on page {hundreds} of the book about {topic}.", "You are a fast reader! How do you like it?"),
    ("Our choir was founded in {year}.", "What a long tradition that is."),
    ("The parcel number is {digits}.", "You can follow it on the page of the carrier."),
    ("He ran it in {num} minutes and {num2} seconds.", "That is a respectable time."),
    ("The lottery drew {few}, {num}, {num2} and {num3}.", "Did you have any of these?"),
    ("{hundreds} people came to hear about {topic}.", "The room must have been full."),
    ("How many legs do {few} spiders have together?", "Eight times {few}, if none of them lost any."),
    ("0.{num} or 0.{num2}, which one is bigger?", "Compare the first digit after the point, then the next."),
)

_CODE = (
    ("for i in range({few}):\n    print(i ** 2)\nWhat does this print?", "The squares, from 0 on, one per line."),
    ("How do I reverse a list in Python?", "Use `items[::-1]` or call `items.reverse()` to do it in place."),
    ("git says I am in a detached HEAD state?", "You checked out a commit. Run `git switch main` to go back."),
    ("What does `x = x or {num}` do?", "It sets x to {num} if x is empty, zero or None."),
    ("SELECT name FROM birds WHERE weight > {num};", "It lists the birds that weigh more than {num}."),
    ("grep -rn 'TODO' src | wc -l", "It counts the lines below src that hold a TODO."),
    ('{{"id": {long}, "tags": ["{odd}", "{odd2}"]}}', "That is valid JSON: an id and two tags."),
    ("def area(w, h): return w * h\nIs this fine?", "Yes. A docstring would not hurt, though."),
    ("TypeError: 'NoneType' object is not callable", "You call something that is None. Look at the line above."),
    ("My CSS says color: #{hex}; what is it like?", "Rather soft; convert it to see how bright it is."),
    ("curl -s localhost:{long}/health", "It asks a local service whether it is well."),
    ("What is the regex for {few} digits?", "Write `\\d{{{few}}}` and anchor it if you need the whole string."),
)

_RARITIES = (
    ("The serial number of the {thing} is {serial}.", "I see. Keep the receipt as well."),
    ("Professor {surname} lectures on {odd} in {far}.", "That must be a very small seminar."),
    ("A {odd} is not a {odd2}, says Dr. {surname}.", "The doctor should know."),
    ("Flight {letter}{letter2}{hundreds} to {far} is delayed.", "Then there is time to eat something."),
    ("I saw a van with the plate {letter}{letter2} {long}.", "Funny what one notices on the road."),
    ("Checksum: {hex}{hex2}", "Compare it with the one on the download page."),
    ("Mrs. {surname} married Mr. {surname2} in {far}.", "What a place for a wedding!"),
    ("The {odd} festival of {far} begins on the {few}th.", "I would love to see pictures of that."),
    ("Xq zrrt, sorry, the {animal} walked over the keys.", "Typing {animal}s are the best."),
    ("Spare part {serial} replaces {serial2}.", "Good to know, thank you."),
    ("Licence key of the old game: {hex}-{hex2}-{hex3}", "I hope it still runs on your computer."),
)

_ODD = (
    ("Hm.", "Take your time."),
    ("lol", "Glad it made you laugh."),
    ("Brrr!", "Put on a jumper."),
    ("42", "The answer to everything, they say."),
    ("Never mind.", "All right."),
    ("Testing, testing.", "I can read you."),
    ("{odd}!", "Bless you."),
    ("...", "Is everything all right?"),
    ("Wait, the {thing} is beeping.", "I will wait."),
    ("Back again.", "Welcome back."),
    ("zzzzzz", "It is late, is it not?"),
    ("Ha, {name} just fell into the pond!", "Oh dear! Is {name} all right?"),
)

_KITCHEN_AND_TRAVEL = (
    ("How do I make {dish}?", "Start slowly, salt late, and taste often; about {num} minutes are enough."),
    ("I burnt {dish} yesterday.", "It happens. Lower heat and a timer work wonders."),
    ("{dish} for {few} people?", "Count one portion each and one more for the hungry."),
    ("Is {city} worth a weekend?", "Yes: a walk through the old town, a museum, and a good dinner."),
    ("From {city} to {city2} by train?", "Change once in {city3}; it takes about {few} hours."),
    ("My suitcase weighs {num} kilos.", "That may be more than the airline allows."),
    ("In {city} everybody eats {dish} for breakfast.", "Every town has its habits."),
    ("The ferry to {far} was full.", "Perhaps there is another one at {hour}:{minute}."),
    ("What do I see first in {city}?", "The market hall, then the river, and the tower if it is clear."),
    ("The oven only goes up to {hundreds} degrees.", "For {dish} that is enough; give it more time."),
    ("Our hostel in {city} had a {animal}.", "The best hostels do."),
)

TEMPLATES = (
    *_QUESTIONS,
    *_SMALL_TALK,
    *_LISTS,
    *_NUMBERS,
    *_CODE,
    *_RARITIES,
    *_ODD,
    *_KITCHEN_AND_TRAVEL,
)
