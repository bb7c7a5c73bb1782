from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('ratelimits', '0008_sweep_schedule'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='ratelimit',
            options={'ordering': ['name'], 'permissions': [('reset_identity', 'Can reset what is counted of somebody')]},
        ),
    ]
