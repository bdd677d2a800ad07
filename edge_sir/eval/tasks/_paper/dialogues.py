"""Everyday dialogues of two people, written for this project: an exchange a line, a bar between its two halves."""

__all__ = ["DIALOGUES"]

_TEXT = """
Good morning, I would like to rent a bicycle.|Of course. For a day or for a whole week?
For a week, please. Do you have one with a basket?|Yes, the green one over there has a basket.
How much is it for seven days?|Forty euros, and the lock is included.
That sounds fair. Can I pay by card?|Certainly, the terminal is right here.
Where do I bring it back on Sunday?|Just leave it behind the shop and drop the key in the letterbox.

The washing machine is leaking again.|Did you check whether the hose has come loose?
I did, but the water comes from under the door.|Then the rubber seal is probably worn out.
Can we change it ourselves?|I think so. It takes a screwdriver and half an hour.
Where would we get a new seal?|The hardware store has them, if you know the model.
It is written on the back, I will take a photo.|Good idea. Meanwhile I will mop the floor.

You look tired. Did you sleep badly?|The dog next door barked until three.
Have you talked to the neighbours about it?|Not yet. They only moved in last week.
Maybe they do not know that he barks when they are out.|That is possible. I will ring their bell tonight.
Take some biscuits along, that always helps.|For them or for the dog?

Excuse me, is this seat taken?|No, please sit down. My friend gets on at the next stop but one.
Thank you. Does this train stop in the old town?|It does, but you have to be in one of the first two carriages.
Oh, and where are we now?|In the fifth. You can walk through to the front.
With this suitcase? How long do I have?|About a quarter of an hour, so there is no hurry.

I heard that you got the job. Congratulations!|Thank you! I still cannot quite believe it.
When do you start?|On the first of March, right after the holidays.
Will you have to move to the capital?|No, three days a week I can work from home.
And what do your old colleagues say?|They are planning a farewell party with far too much cake.
You have earned it.|The cake or the job?

Waiter, I think this is not what I ordered.|I am so sorry. What did you ask for?
The mushroom soup, without cream.|I see, you got the potato soup of the next table.
It smells good, but I cannot eat milk products.|I will bring you the right one in two minutes.
Could I have some bread while I wait?|Here you are, and the drinks are on the house.

Could you help me with my homework?|Sure, which subject is it?
Mathematics. I do not understand fractions.|Then let us take a pizza as an example.
If I eat two of eight slices, how much is left?|Six of eight, and that is the same as three quarters.
Why is it the same?|Because you can put two slices together each time.
Now I am hungry.|First the next exercise, then the pizza.

Do you have any plans for the weekend?|I want to paint the kitchen at last.
Which colour did you choose?|A light yellow, it gets so little sun.
Do you need someone to hold the ladder?|I need someone to move the fridge, to be honest.
I can come on Saturday after ten.|Wonderful. I will make lunch for both of us.

Hello, I am calling about the flat in Mill Street.|It is still free. Would you like to see it?
Yes, very much. Is it on the ground floor?|No, on the third, and there is no lift.
That is fine with me. Are pets allowed?|A cat is no problem, a dog would be difficult.
I only have a goldfish.|Then nobody will complain about the noise.
When could I have a look at it?|Tomorrow at five, if that suits you.

What happened to your arm?|I slipped on the ice in front of the post office.
Is it broken?|Luckily not, but the wrist is badly sprained.
How long do you have to wear that bandage?|Two weeks, and I cannot play the piano until then.
So who will play at the wedding?|My sister. She has been practising since yesterday.

I would like to return this jumper.|Is there anything wrong with it?
It shrank although I washed it cold.|Do you still have the receipt?
Yes, and here is the label with the instructions.|Then you may choose another one or have your money back.
I would rather have the money.|No problem. Please sign here.

Did you feed the cat this morning?|I thought it was your turn.
No, on Tuesdays it is always you.|But today is Wednesday!
Really? Then I missed the dentist.|Call them at once, perhaps they have time this afternoon.
And the cat?|She has been sitting on the fridge and looking at us for an hour.

Can you recommend a book for a long flight?|Do you like crime stories?
Not if there is too much blood.|Then try this one. An old lady solves everything by knitting.
Is it funny?|So funny that my neighbour on the bus asked me to stop laughing.
How many pages does it have?|Four hundred. That should last as far as Canada.
Great, I will take it.|Shall I wrap it, or do you want to begin right away?

The tomatoes in our garden are all green.|It has been too cold for them this year.
Can we still save them?|Put them on the window sill beside an apple.
Why an apple?|It gives off a gas that makes them ripen.
I have never heard of that.|My grandmother did it every autumn.

Good evening, we have booked a room for two nights.|Welcome. Under which name, please?
Under Sandoval, with a view of the lake.|Here it is: room twelve on the second floor.
Is breakfast included?|Yes, from seven to ten in the winter garden.
We have to leave at six on Monday.|Then the kitchen will pack you something for the road.

Are you coming to choir practice tonight?|I have lost my voice completely.
Have you tried tea with ginger?|Three pots of it since lunch.
Then just come and listen.|That is torture. I would want to sing along.
We are doing the new piece by that Finnish composer.|All right, I will come, but I will sit at the back.

My computer does not start any more.|Is there any light when you press the button?
A red one, and it beeps three times.|Three beeps usually mean that the memory is loose.
Can I fix that?|Switch it off, open the cover and press the long cards into their slots.
Now it beeps only once!|That is exactly how it should sound.
You are a genius.|I have just had the same trouble with mine.

I am looking for a present for my uncle.|What is he interested in?
He watches birds, all day long.|We have a very light pair of binoculars.
He has three of those already.|Then perhaps a feeder with a small camera in it?
Does it send the pictures to his telephone?|It does, and it tells him which bird it was.

Shall we walk or take the tram?|It is only two stops, let us walk.
But it looks like rain.|I have brought the big umbrella.
Last time it turned inside out in the wind.|This one is new and does not do that.
Fine, but if I get wet, you pay for the coffee.|It is a deal.

Have you seen my glasses anywhere?|When did you have them last?
When I read the newspaper on the balcony.|They are not there, I have just watered the plants.
Maybe I left them in the bathroom.|Before you search the house, touch your forehead.
Oh. How long have they been up there?|Since breakfast, I would say.

Doctor, my ears have been ringing for a week.|Have you been to a concert lately?
Yes, I stood right beside the loudspeaker.|Then it will most likely go away by itself.
Is there nothing I can take?|Rest and silence, and earplugs the next time.
Should I come again?|If it is not better in ten days, please do.

We need a name for our boat.|How about Duchess?
That is what everybody calls their boat.|Then something from the sea. Cuttlefish?
Who wants to sail on a cuttlefish?|They are clever, and they have three hearts.
Three hearts, I like that.|So shall we call it Three Hearts?
Perfect. You get the paint, I get the brush.|And tomorrow we put it on the water.

How was your trip to the mountains?|Beautiful, but we never saw the summit.
Was the weather that bad?|There was fog from the first day to the last.
What did you do all the time?|We played cards with a couple from Belgium and learnt to make fondue.
Would you go there again?|Yes, if only to find out what it looks like.

I think we are lost.|The map says that there should be a chapel on the left.
All I can see is a field with cows.|Then we took the wrong turn at the crossroads.
Should we go back?|It is shorter to follow the brook, it leads to the village.
My phone has no signal here.|That is why I brought a map made of paper.
What would I do without you?|You would be living among the cows.
"""

DIALOGUES: tuple[tuple[tuple[str, str], ...], ...] = tuple(
    tuple((said, answer) for said, answer in (line.split("|") for line in told.splitlines()))
    for told in _TEXT.strip().split("\n\n")
)
"""Each a row of exchanges: (what one says, what the other answers)."""
